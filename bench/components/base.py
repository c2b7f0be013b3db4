"""A component: a frozen dataclass whose fields are its parameters, and its one text form."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import hashlib
import json
import math
import os
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Literal

from bench.components.files import data_dir
from bench.errors import BadValue, EnvironmentProblem, PluginError, UnknownName, suggestion

Form = Literal["text", "identity", "published"]
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True)
class Paper:
    """Where a method was published."""

    title: str
    authors: str
    venue: str
    year: int
    url: str = ""

    @property
    def bibtex(self) -> str:
        surname = re.sub(r"\W", "", self.authors.split(",")[0].split(" and ")[0].split()[-1].lower())
        word = re.sub(r"\W", "", self.title.split()[0].lower())
        rows = {
            "title": self.title,
            "author": self.authors,
            "booktitle": self.venue,
            "year": self.year,
            "url": self.url,
        }
        body = ",\n".join(f"  {key} = {{{value}}}" for key, value in rows.items() if value)
        return f"@inproceedings{{{surname}{self.year}{word},\n{body}\n}}"


def param(default: Any = MISSING, help: str = "", *, low: float | None = None, high: float | None = None) -> Any:
    """Declare a parameter: its default (leave it out where one must be given), a sentence, and an inclusive range."""
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high})


@dataclass(frozen=True)
class Parameter:
    """One declared parameter, as `bench show` and the checks see it."""

    name: str
    type: Any
    default: Any
    help: str
    low: float | None
    high: float | None

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def accepts(self) -> str:
        """The values that it takes, in words."""
        if typing.get_origin(self.type) is Literal:
            return " or ".join(map(repr, typing.get_args(self.type)))
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

    def __post_init__(self) -> None:
        for parameter in parameters(type(self)).values():
            value = _checked(self, parameter, getattr(self, parameter.name))
            object.__setattr__(self, parameter.name, value)
        problem = self.problem()
        if problem:
            raise BadValue(f"{self.kind} {self.name}: {problem}")

    def __str__(self) -> str:
        """The text form, defaults left out: `l2_cosd:cosine=0.5`."""
        return self._text("text")

    def _text(self, form: Form) -> str:
        given = [
            f"{p.name}={write(getattr(self, p.name), form)}"
            for p in parameters(type(self)).values()
            if p.required or getattr(self, p.name) != p.default
        ]
        return self.name + (":" + ",".join(given) if given else "")

    @property
    def published(self) -> str:
        """The text form with each path as NAME#CHECKSUM, which tells nothing of the machine."""
        return self._text("published")

    @property
    def identity(self) -> str:
        """The text that stands for this component in keys: all parameters, files by their checksums."""
        values = ",".join(f"{n}={write(getattr(self, n), 'identity')}" for n in parameters(type(self)))
        return f"{self.kind}/{self.name}@{self.version}({values})"

    def problem(self) -> str | None:
        """What is wrong with the parameters taken together, or None."""
        return None

    def refuse(self, case: Any) -> str | None:
        """Why this component cannot take part in a case, or None."""
        return None


@functools.cache
def parameters(cls: type[Component]) -> dict[str, Parameter]:
    """The declared parameters of a component class, in order.

    Help and range may be declared on the kind and only the default on the component, as schedules do.
    """
    try:
        types = typing.get_type_hints(cls)
    except NameError as error:
        raise PluginError(f"{cls.__module__}.{cls.__qualname__}: its annotations cannot be read: {error}") from None
    found = {}
    for field in dataclasses.fields(cls):
        declared = next(
            (
                base.__dataclass_fields__[field.name].metadata
                for base in cls.__mro__
                if field.name in base.__dict__.get("__dataclass_fields__", {})
                and base.__dataclass_fields__[field.name].metadata
            ),
            {"help": "", "low": None, "high": None},
        )
        if field.default_factory is not MISSING:
            raise PluginError(f"{cls.__qualname__}.{field.name}: give a default, not a factory")
        found[field.name] = Parameter(field.name, types[field.name], field.default, **declared)
    return found


def _checked(owner: Component, parameter: Parameter, value: Any) -> Any:
    """The value, with whole numbers made float or Fraction where that is asked; BadValue where it does not fit."""
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
    """Raise PluginError where a parameter has a type that there is not, or a default that does not fit it."""
    for parameter in parameters(cls).values():
        about = f"{cls.kind} {cls.name}: parameter {parameter.name}"
        try:
            fitted = MISSING if parameter.required else _fit(parameter.type, parameter.default)
            if parameter.required:
                _fit(parameter.type, None)
        except PluginError as error:
            raise PluginError(f"{about}: {error}") from None
        if not parameter.required and (fitted is MISSING or fitted != parameter.default):
            raise PluginError(f"{about}: its default {parameter.default!r} is not {parameter.accepts}")


def _fit(kind: Any, value: Any) -> Any:
    """The value as the declared type, or MISSING."""
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
        return _located(Path(value)) if isinstance(value, str | Path) else MISSING
    if kind in (int, float, bool, str, Fraction):
        return value if type(value) is kind else MISSING
    if isinstance(kind, type) and issubclass(kind, Component):
        return value if isinstance(value, kind) else MISSING
    raise PluginError(f"a parameter cannot have the type {kind}")


def _located(path: Path) -> Path:
    """A path as it is, or below the data folder where it is there and not here."""
    below = data_dir()
    return below / path if below and not path.exists() and (below / path).exists() else path


# Text: name[:preset][:key=value,...]; nested values stand in parentheses; what is empty or holds white space or one of
# ,()="\ stands in quotes.


def write(value: Any, form: Form = "text") -> str:
    """A parameter value as text: to be read again, as it enters a key, or as it is published."""
    if isinstance(value, Component):
        return f"({value.identity if form == 'identity' else value._text(form)})"
    if isinstance(value, tuple):
        return "(" + ",".join(write(v, form) for v in value) + ")"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Path) and form != "text":
        value = f"{value.name if form == 'published' else ''}#{checksum(value)}"
    text = repr(value) if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if not text or re.search(r'[,()="\\\s]', text) else text


_settled: contextvars.ContextVar[dict[Path, str] | None] = contextvars.ContextVar("settled", default=None)


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """Inside, files are taken not to change: each path is walked and summed once."""
    token = _settled.set({} if _settled.get() is None else _settled.get())
    try:
        yield
    finally:
        _settled.reset(token)


def checksum(path: Path) -> str:
    """sha256 of what a path holds; inside `settled`, looked at once."""
    known = _settled.get()
    if known is None:
        return _checksum(path)
    if path not in known:
        known[path] = _checksum(path)
    return known[path]


def _checksum(path: Path) -> str:
    """sha256 of a file, or of the names and contents of a folder's files; 16 digits."""
    found = hashlib.sha256()
    try:
        below = (Path(at, name) for at, _, names in os.walk(path, followlinks=True) for name in names)
        for file in sorted(p for p in below if p.is_file()) if path.is_dir() else [path]:
            state = file.stat()
            found.update(str(file.relative_to(path)).encode() + b"\0")
            found.update(_content_sum(file.resolve(), state.st_size, (state.st_mtime_ns, state.st_ctime_ns)))
    except OSError as error:
        raise EnvironmentProblem(f"{path} cannot be read ({error.strerror}); check the path") from None
    return found.hexdigest()[:16]


@functools.cache
def _content_sum(file: Path, size: int, changed: tuple[int, int]) -> bytes:
    """sha256 of a file's content, read once in a process for as long as its size and times of change stay."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def split(text: str, mark: str = ",") -> list[str]:
    """The parts of a text between marks that stand outside quotes and parentheses."""
    parts, depth, quoted, start, skip = [], 0, False, 0, False
    for i, sign in enumerate(text):
        if skip:
            skip = False
        elif quoted:
            skip, quoted = sign == "\\", sign != '"'
        elif sign == '"':
            quoted = True
        elif sign in "()":
            depth += 1 if sign == "(" else -1
            if depth < 0:
                break
        elif sign == mark and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    if depth or quoted:
        raise BadValue(f"{text!r}: a {'quote' if quoted else 'parenthesis'} is not closed or not opened")
    return [*parts, text[start:]]


def read(text: str, kind: str, find: Callable[[str, str], type[Component]]) -> Component:
    """A component from its text form; `find(kind, name)` gives its class."""
    name, colon, rest = text.strip().partition(":")
    cls = find(kind, name)
    declared = parameters(cls)
    items = split(rest) if rest else []
    if colon and not items:
        raise BadValue(f"{text!r} ends after the colon; write {name} or {name}:parameter=value")
    preset: list[str] = []
    if items and "=" not in items[0] and items[0] in cls.presets:
        preset, items = split(cls.presets[items[0]]), items[1:]
    given: dict[str, Any] = {}
    named: set[str] = set()
    for place, item in enumerate([*preset, *items]):
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals:
            presets = f" or a preset ({', '.join(sorted(cls.presets))})" if cls.presets else ""
            raise BadValue(f"{text!r}: {item!r} is not of the form parameter=value{presets}")
        if key not in declared:
            raise UnknownName(f"{kind} {name} has no parameter {key!r}{suggestion(key, declared)}")
        if key in named:
            raise BadValue(f"{text!r} gives {key} twice")
        if place >= len(preset):
            named.add(key)
        given[key] = _value(declared[key], value.strip(), f"{kind} {name}", find)
    missing = [p.name for p in declared.values() if p.required and p.name not in given]
    if missing:
        raise BadValue(f"{kind} {name} needs {', '.join(missing)}: write {name}:{missing[0]}=...")
    return cls(**given)


def _value(parameter: Parameter, text: str, owner: str, find: Callable[[str, str], type[Component]]) -> Any:
    kind = parameter.type
    try:
        return _from_text(kind, text, find)
    except (ValueError, ZeroDivisionError, AttributeError):
        raise BadValue(f"{owner}: {parameter.name} is {text!r}, must be {parameter.accepts}") from None


def _from_text(kind: Any, text: str, find: Callable[[str, str], type[Component]]) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        body = _inside(text)
        return tuple(_from_text(inner[0], part.strip(), find) for part in split(body)) if body else ()
    if isinstance(kind, type) and issubclass(kind, Component):
        return read(_inside(text), kind.kind, find)
    if text.startswith('"'):
        text = json.loads(text)
    if origin is Literal:
        return next((choice for choice in inner if str(choice) == text), text)
    if kind in (int, float, Fraction) and (len(text) > 100 or re.search(r"e[+-]?\d{4}", text, re.IGNORECASE)):
        raise ValueError("no number that anything here is measured in")
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    return kind(text)


def _inside(text: str) -> str:
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text
