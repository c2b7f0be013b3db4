"""A component: a frozen dataclass whose fields are its parameters, and the text that stands for it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import math
import typing
import warnings
from dataclasses import MISSING, dataclass
from fractions import Fraction
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal

from bench.components.files import checksum, locate, remember
from bench.errors import BadValue, PluginError
from bench.keys import needs_quotes
from bench.papers import Paper

Form = Literal["text", "identity", "published"]


def param(
    default: Any = MISSING, help: str = "", *, low: float | None = None, high: float | None = None, added: bool = False
) -> Any:
    """Declare a parameter: its default (none where the user must give a value), its help, and an inclusive range.

    `added` is for a component that has records already: its identity leaves the parameter out while it has its default,
    which does what the component did before. So no key moves.
    """
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high, "added": added})


@dataclass(frozen=True)
class Parameter:
    """A declared parameter, as `bench show` and the checks see it."""

    name: str
    type: Any
    default: Any
    help: str
    low: float | None
    high: float | None
    added: bool

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def accepts(self) -> str:
        """The values that the parameter takes, in words."""
        if typing.get_origin(self.type) is Literal:
            *first, last = map(repr, typing.get_args(self.type))
            return " or ".join(filter(None, [", ".join(first), last]))
        if optional(self.type):
            return dataclasses.replace(self, type=optional(self.type)).accepts + " or none"
        if typing.get_origin(self.type) is tuple:
            return "a tuple of " + dataclasses.replace(self, type=typing.get_args(self.type)[0]).accepts
        words = {
            int: "a whole number",
            float: "a number",
            bool: "true or false",
            str: "a text",
            Fraction: "a fraction such as 8/255",
            Path: "a path",
        }
        text = words.get(self.type) or f"{'an' if self.type.kind[0] in 'aeiou' else 'a'} {self.type.kind}"
        if self.low is not None and self.high is not None:
            return f"{text} from {self.low} to {self.high}"
        if self.low is not None:
            return f"{text} of at least {self.low}"
        if self.high is not None:
            return f"{text} of at most {self.high}"
        return text


@dataclass(frozen=True)
class Component:
    """Base of the seven kinds. A subclass is a frozen dataclass; its fields, made by `param`, are its parameters."""

    kind: ClassVar[str]
    name: ClassVar[str]
    version: ClassVar[int] = 1
    paper: ClassVar[Paper | None] = None
    examples: ClassVar[tuple[str, ...]] = ("",)
    presets: ClassVar[dict[str, str]] = {}
    in_memory: ClassVar[bool] = False  # whether it stands for objects of this process, which no text makes again

    def __init_subclass__(cls, **options: Any) -> None:
        """Let a subclass give an inherited parameter another default by assignment alone: `epochs = 3`."""
        super().__init_subclass__(**options)
        annotated = vars(cls).get("__annotations__", {})
        for base in cls.__mro__[1:]:
            for name in vars(base).get("__dataclass_fields__", {}):
                if name in vars(cls) and name not in annotated and not hasattr(vars(cls)[name], "__get__"):
                    # As the decorator, which runs next, expects it.
                    cls.__annotations__[name] = _find_types(base)[name]

    def __post_init__(self) -> None:
        for parameter in parameters(type(self)).values():
            value = _checked(self, parameter, getattr(self, parameter.name))
            object.__setattr__(self, parameter.name, value)
        problem = self.find_problem()
        if problem:
            raise BadValue(f"{self.kind} {self.name}: {problem}")

    def __str__(self) -> str:
        """The text form without defaults: `l2_cosd:cosine=0.5`."""
        return remember(self, "text", lambda: self._text("text"))

    def _text(self, form: Form) -> str:
        given = [
            f"{p.name}={write(getattr(self, p.name), form)}"
            for p in parameters(type(self)).values()
            if p.required or getattr(self, p.name) != p.default
        ]
        return self.name + (":" + ",".join(given) if given else "")

    @property
    def published(self) -> str:
        """The text form with each path as NAME#CHECKSUM, which reveals nothing about the machine."""
        return remember(self, "published", lambda: self._text("published"))

    @property
    def identity(self) -> str:
        """The text that stands for this component in keys: all parameters, with files by their checksums.

        Added parameters are left out while they have their defaults.
        """
        return remember(self, "identity", self._identity)

    def _identity(self) -> str:
        values = ",".join(
            f"{p.name}={write(getattr(self, p.name), 'identity')}"
            for p in parameters(type(self)).values()
            if not p.added or getattr(self, p.name) != p.default
        )
        return f"{self.kind}/{self.name}@{self.version}({values})"

    def find_problem(self) -> str | None:
        """What is wrong with the parameters taken together, or None."""
        earlier = getattr(self, "problem", None)  # the name of this method in version 0.1
        if earlier is None:
            return None
        warnings.warn("Component.problem is now called find_problem", DeprecationWarning, stacklevel=2)
        found: str | None = earlier()
        return found

    @classmethod
    def suggest(cls, text: str) -> str | None:
        """What to write where a user gives a text that names no component but something that this one knows, or None.

        A library's model may know `resnet50`, and suggest `library:arch=resnet50`.
        """
        return None

    def refuse(self, case: Any) -> str | None:
        """Why this component cannot take part in a case, or None."""
        return None


_UNSAID = param().metadata  # of a field that `param` does not declare
_PARAMETERS: dict[type[Component], dict[str, Parameter]] = {}


def parameters(cls: type[Component]) -> dict[str, Parameter]:
    """The declared parameters of a component class, in order.

    A kind may declare help and range, and a component only the default, as schedules do.
    """
    if cls in _PARAMETERS:
        return _PARAMETERS[cls]
    try:
        types = _find_types(cls)
    except NameError as error:
        raise PluginError(f"{cls.__module__}.{cls.__qualname__}: its annotations cannot be read: {error}") from None
    declared: dict[str, Parameter] = {}
    for field in dataclasses.fields(cls):
        fields = (vars(base).get("__dataclass_fields__", {}).get(field.name) for base in cls.__mro__)
        metadata = next((f.metadata for f in fields if f and f.metadata), _UNSAID)
        if field.default_factory is not MISSING:
            raise PluginError(f"{cls.__qualname__}.{field.name}: give a default, not a factory")
        declared[field.name] = Parameter(field.name, types[field.name], field.default, **metadata)
    _PARAMETERS[cls] = declared
    return declared


def _find_types(cls: type) -> dict[str, Any]:
    """The types of the fields of a class and of its bases."""
    return {name: kind for base in reversed(cls.__mro__) for name, kind in _find_own_types(base).items()}


@functools.cache
def _find_own_types(cls: type) -> dict[str, Any]:
    """Those that a class declares itself. Many share their bases, whose texts take long to read."""
    return inspect.get_annotations(cls, eval_str=True) if dataclasses.is_dataclass(cls) else {}


def _checked(owner: Component, parameter: Parameter, value: Any) -> Any:
    """The value, whole numbers converted to float or Fraction where declared. Raises BadValue if it does not fit."""
    fitted = _fit(parameter.type, value)
    parts = fitted if isinstance(fitted, tuple) else (fitted,)
    if fitted is MISSING or not all(_in_range(part, parameter) for part in parts):
        shown = str(value) if isinstance(value, Fraction | Path) else repr(value)
        raise BadValue(f"{owner.kind} {owner.name}: {parameter.name} is {shown}, must be {parameter.accepts}")
    return fitted


def _in_range(value: Any, parameter: Parameter) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction):
        return True
    low, high = parameter.low, parameter.high
    finite = not isinstance(value, float) or math.isfinite(value)
    return finite and (low is None or value >= low) and (high is None or value <= high)


def check_parameters(cls: type[Component]) -> None:
    """Raise PluginError where a parameter has an unsupported type, or a default that does not fit it."""
    for parameter in parameters(cls).values():
        about = f"{cls.kind} {cls.name}: parameter {parameter.name}"
        try:
            fitted = MISSING if parameter.required else _fit(parameter.type, parameter.default)
            if parameter.required:
                _fit(parameter.type, None)
        except PluginError as error:
            raise PluginError(f"{about}: {error}") from None
        if parameter.required and parameter.added:
            raise PluginError(f"{about} is added without a default; give the one that does what was done before")
        if not parameter.required and (fitted is MISSING or fitted != parameter.default):
            raise PluginError(f"{about}: its default {parameter.default!r} is not {parameter.accepts}")


def optional(kind: Any) -> Any:
    """The type X of the declared type X | None; None for any other."""
    inner = typing.get_args(kind)
    return inner[0] if isinstance(kind, UnionType) and inner[1:] == (NoneType,) else None


def _fit(kind: Any, value: Any) -> Any:
    """The value as the declared type, or MISSING where it does not fit."""
    if optional(kind):
        return None if value is None else _fit(optional(kind), value)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return value if value in inner and type(value) is type(inner[inner.index(value)]) else MISSING
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return MISSING
        fitted = tuple(_fit(inner[0], v) for v in value)
        return MISSING if MISSING in fitted else fitted
    if kind in (float, Fraction) and type(value) is int:
        try:
            return kind(value)
        except OverflowError:
            return MISSING
    if kind is float and type(value) is float:
        return value + 0.0  # -0.0 equals 0.0 and must read the same
    if kind is Path:
        return locate(Path(value)) if isinstance(value, str | Path) else MISSING
    if kind in (int, float, bool, str, Fraction):
        return value if type(value) is kind else MISSING
    if isinstance(kind, type) and issubclass(kind, Component):
        return value if isinstance(value, kind) else MISSING
    raise PluginError(f"a parameter cannot have the type {kind}")


def write(value: Any, form: Form = "text") -> str:
    """A parameter's value as text: for `text.read`, for a key, or for publication."""
    if value is None:
        return "none"
    if isinstance(value, Component):
        return f"({value.identity if form == 'identity' else value._text(form)})"
    if isinstance(value, tuple):
        return "(" + ",".join(write(v, form) for v in value) + ")"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Path) and form != "text":
        value = f"{value.name if form == 'published' else ''}#{checksum(value)}"
    text = repr(value) if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if needs_quotes(text) else text
