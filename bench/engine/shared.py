"""What components share, and whether one of them changed it: settings, libraries, networks and data."""

from __future__ import annotations

import builtins
import contextlib
import contextvars
import functools
import hashlib
import inspect
import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from bench.components import Data
from bench.engine.settings import find_changes, put_settings, read_settings
from bench.errors import BadComponent, EnvironmentProblem, PluginError, summarise_error

T = TypeVar("T")

OWN = "bench"  # of whose modules also the constants count
SMALL = 2**24  # bytes of data that are read again after every call
# Where bench.guard puts other functions while a network runs, and modules that libraries change as they load.
CHANGING = ("torch.utils.checkpoint", "sys", "warnings", "threading")
TORCH = Path(torch.__file__).parent
BASES = (nn.Module, torch.optim.Optimizer, torch.autograd.Function)
PARTS = ("nn.functional", "nn.init", "autograd", "linalg", "fft", "special", "optim", "random", "overrides")


@dataclass
class _Place:
    """A module or a class, and what its names stood for."""

    label: str
    home: ModuleType | type
    kept: dict[str, Any]

    @functools.cached_property
    def names(self) -> Mapping[str, Any]:
        return vars(self.home)

    @functools.cached_property
    def values(self) -> list[Any]:
        return list(self.kept.values())

    def has_changed(self) -> bool:
        """Whether to look closer. Lists are compared by identity first, and as fast as C."""
        with contextlib.suppress(RuntimeError, ValueError):  # of tensors and arrays that are not the same
            if list(map(self.names.get, self.kept)) == self.values:
                return isinstance(self.home, type) and len(self.names) > len(self.kept)
        return True

    def find_changes(self) -> Iterator[str]:
        for name, value in self.kept.items():
            now = self.names.get(name)
            if now is not value and not _is_wrapped_by_torch(now, value):
                yield f"{self.label}.{name}"
        if isinstance(self.home, type):  # a method may be put before an inherited one
            for name in set(self.names) - set(self.kept):
                inherited = getattr(super(self.home, self.home), name, None)
                if _is_behaviour(self.names[name]) and not _is_wrapped_by_torch(self.names[name], inherited):
                    yield f"{self.label}.{name}"


def _is_wrapped_by_torch(now: Any, before: Any) -> bool:
    """Whether torch has put a function around its own, as it does once it needs its compiler or its profiler."""
    if not isinstance(now, FunctionType):
        return False
    file = Path(now.__code__.co_filename)
    is_same = callable(before) and inspect.unwrap(now) is inspect.unwrap(before)
    return file.is_relative_to(TORCH / "_dynamo") or (file.is_relative_to(TORCH) and is_same)


class Library:
    """Functions and classes of the libraries and plugins of this process, as they were."""

    def __init__(self, modules: Iterable[ModuleType] = ()) -> None:
        others = list(modules)
        self.places = []
        classes: dict[type, None] = {}
        for module in dict.fromkeys([*_watched_modules(), *others]):
            kept = {name: value for name, value in vars(module).items() if _is_watched(module, name, value)}
            self.places.append(_Place(module.__name__, module, kept))
            if _is_own(module.__name__) or module in others:
                classes |= dict.fromkeys(v for v in kept.values() if isinstance(v, type))
            else:
                classes |= dict.fromkeys(v for v in kept.values() if isinstance(v, type) and issubclass(v, BASES))
        classes |= dict.fromkeys(torch.Tensor.__mro__[:-1])
        for cls in classes:
            own = _is_own(cls.__module__) or sys.modules.get(cls.__module__) in others
            kept = {n: v for n, v in vars(cls).items() if _is_behaviour(v) or (own and not n.startswith("_"))}
            self.places.append(_Place(f"{cls.__module__}.{cls.__qualname__}", cls, kept))
        self.functions = {
            value: f"{place.label}.{name}"
            for place in self.places
            for name, value in place.kept.items()
            if isinstance(value, FunctionType)
        }
        self.codes = list(map(_read_code, self.functions))

    def find_changes(self) -> list[str]:
        """The full names of what has been replaced."""
        found = [change for place in self.places if place.has_changed() for change in place.find_changes()]
        codes = list(map(_read_code, self.functions))
        if codes != self.codes:
            pairs = zip(self.functions.values(), codes, self.codes, strict=True)
            found += [label for label, now, before in pairs if now != before]
        return found


_read_code = operator.attrgetter("__code__", "__defaults__", "__kwdefaults__")


def _watched_modules() -> list[ModuleType]:
    """The modules whose functions the suite calls by name: its own, and those that they name."""
    own = [m for name, m in list(sys.modules.items()) if _is_own(name) and m is not None]
    named = [value for module in own for value in list(vars(module).values()) if isinstance(value, ModuleType)]
    parts = [sys.modules[f"torch.{part}"] for part in PARTS]
    return [m for m in dict.fromkeys([builtins, *own, torch, nn, *parts, *named]) if m.__name__ not in CHANGING]


def _is_watched(module: ModuleType, name: str, value: Any) -> bool:
    is_constant = _is_own(module.__name__) and not name.startswith("_") and not isinstance(value, ModuleType)
    return callable(value) or is_constant


def _is_behaviour(value: Any) -> bool:
    return callable(value) or isinstance(value, property | classmethod | staticmethod)


def _is_own(module: str) -> bool:
    return module.partition(".")[0].startswith(OWN)


class Portrait:
    """A network as it was: its modules, their attributes and hooks, and copies of its tensors."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.modules = [(name, module, type(module), _attributes(module)) for name, module in network.named_modules()]
        self.tensors = {name: (tensor, tensor.detach().clone()) for name, tensor in _tensors(network)}

    def find_changes(self) -> list[str]:
        """What is different now, in words."""
        now = dict(self.network.named_modules())
        if list(now.values()) != [module for _, module, _, _ in self.modules]:
            return ["the modules of the network"]
        for name, module, cls, before in self.modules:
            about = f"{name or 'the network'}" if not name else f"module {name} of the network"
            if type(module) is not cls:
                return [f"the class of {about}"]
            attributes = _attributes(module)
            for part in before | attributes:
                if not _is_same(before.get(part), attributes.get(part)):
                    return [f"{part} of {about}"]
        return self.find_tensors()

    def find_tensors(self) -> list[str]:
        """A tensor that is different now."""
        tensors = dict(_tensors(self.network))
        for name, (tensor, copy) in self.tensors.items():
            if tensors.get(name) is not tensor or not _is_equal(tensor, copy):
                return [f"the tensor {name} of the network"]
        return []


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights, buffers, and tensors that are neither."""
    yield from network.named_parameters()
    yield from network.named_buffers()
    for name, module in network.named_modules():
        for part, value in vars(module).items():
            if isinstance(value, Tensor):
                yield f"{name}.{part}".lstrip("."), value


def _is_equal(tensor: Tensor, copy: Tensor) -> bool:
    with torch.no_grad():
        return tensor.shape == copy.shape and tensor.dtype == copy.dtype and _bits_equal(tensor, copy)


def _bits_equal(tensor: Tensor, copy: Tensor) -> bool:
    return torch.equal(tensor, copy) or torch.equal(tensor.nan_to_num(), copy.nan_to_num())


def _attributes(module: nn.Module) -> dict[str, Any]:
    """What decides how a module computes, besides its tensors: plain values, functions of its own, and hooks.

    Other attributes may be what a network remembers between passes.
    """
    found: dict[str, Any] = {}
    for name, value in vars(module).items():
        if name.endswith("_hooks") and isinstance(value, dict):
            if value:
                found[name] = tuple(value.values())
        elif isinstance(value, bool | int | float | str | tuple) or callable(value):
            found[name] = value
    for name, weight in module.named_parameters(recurse=False):
        hooks = (weight._backward_hooks, getattr(weight, "_post_accumulate_grad_hooks", None))
        if any(hooks):
            found[f"hooks of {name}"] = tuple(tuple((each or {}).values()) for each in hooks)
    return found


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return one is other or (type(one) is type(other) and isinstance(one, bool | int | float | str) and one == other)


class Print:
    """The fingerprint of data that components are handed."""

    def __init__(self, data: Data) -> None:
        parts = (data.images, data.labels, data.object_masks, data.gaze, data.indices)
        self.tensors = [part for part in parts if isinstance(part, Tensor)]
        self.versions = self._read_versions()
        self.sum = self._compute_sum()
        self.is_small = sum(tensor.nbytes for tensor in self.tensors) <= SMALL

    def _read_versions(self) -> list[int]:
        return [-1 if tensor.is_inference() else tensor._version for tensor in self.tensors]

    def _compute_sum(self) -> bytes:
        found = hashlib.sha256()
        for tensor in self.tensors:
            found.update(tensor.detach().cpu().contiguous().numpy().data)
        return found.digest()

    def has_changed(self, was_handed: bool) -> bool:
        """Whether the data differ. A large set that was not handed out is not read again."""
        if self._read_versions() != self.versions:
            return True
        return (was_handed or self.is_small) and self._compute_sum() != self.sum


class Changed(BadComponent):
    """A component changed what others share."""


class Spoiled(EnvironmentProblem):
    """A component changed what cannot be put back, so that nothing may be computed any more in this process."""


@dataclass
class _Call:
    who: str
    changes: list[str] = field(default_factory=list)


class Shared:
    """Guards the calls of components in one run.

    Each call begins with the settings and in the context that the run began with. What others share is compared
    afterwards.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self._listeners: list[Callable[[], None]] = []
        self._settings = read_settings()
        self._context = contextvars.copy_context()
        self._calls: list[_Call] = []
        self._problem: Spoiled | None = None
        self._portraits: dict[str, Portrait] = {}
        self._prints: dict[str, Print] = {}

    def on_change(self, forget: Callable[[], None]) -> None:
        """Have a function called that drops values, which are then computed again or read from the store."""
        self._listeners.append(forget)

    def remember(self, spec: str, value: Any) -> None:
        """Look at a value in memory that components will share."""
        if isinstance(value, nn.Module):
            self._portraits[spec] = Portrait(value)
        elif isinstance(value, Data):
            self._prints[spec] = Print(value)

    def keep(self, specs: set[str]) -> None:
        """Forget all values but these."""
        self._portraits = {spec: portrait for spec, portrait in self._portraits.items() if spec in specs}
        self._prints = {spec: found for spec, found in self._prints.items() if spec in specs}

    def call(self, who: str, function: Callable[[], T], hands_out: bool = False) -> T:
        """What a function returns that runs the code of components.

        `who` they are, in words; `hands_out`: whether they get whole data sets. Raises Changed where they changed what
        others share, which is put back; Spoiled where it cannot be; BadComponent for what ends a process, except
        Ctrl-C.
        """
        if self._problem:
            raise self._problem
        call, outside = _Call(who), read_settings()
        put_settings(self._settings)
        self._calls.append(call)
        failure: Exception | None = None
        try:
            try:
                result = self._context.copy().run(function)
            except Exception as error:
                failure = error
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # as of sys.exit, which must not end the run
                failure = BadComponent(f"{who} ended by {summarise_error(error)}; raise an Exception instead")
            self._compare(call, hands_out)
        finally:
            self._calls.pop()
            if self._calls:
                put_settings(outside)
        if failure:
            raise failure
        return result

    def audit(self) -> None:
        """Look at what is shared in the middle of a call, before it asks for a value that others share as well."""
        if self._calls and any(portrait.find_tensors() for portrait in self._portraits.values()):
            self._calls[-1].changes += [c for portrait in self._portraits.values() for c in portrait.find_tensors()]
            self._forget()

    def _forget(self) -> None:
        self._portraits.clear()
        self._prints.clear()
        for forget in self._listeners:
            forget()

    def _compare(self, call: _Call, hands_out: bool) -> None:
        changes = [*call.changes, *find_changes(self._settings)]
        for portrait in self._portraits.values():
            changes += portrait.find_changes()
        if any(found.has_changed(hands_out) for found in self._prints.values()):
            changes.append("the data that it was given")
        lasting = put_settings(self._settings)  # first, since the default dtype renames a class of torch
        replaced = [*lasting, *self.library.find_changes()]
        if replaced:
            self._problem = Spoiled(
                f"{call.who} changed {_name(replaced)}, which others use and which cannot be put back; finished "
                "results are kept; run again without it"
            )
        if self._problem:
            raise self._problem
        if changes:
            self._forget()
            raise Changed(f"{call.who} changed {_name(changes)}, which others use; it was put back; work on copies")


def _name(changes: Iterable[str]) -> str:
    first, *others = dict.fromkeys(changes)
    return first + (f" and {len(others)} more" if others else "")


@contextlib.contextmanager
def unchanged(about: str, library: Library) -> Iterator[None]:
    """Raise PluginError where what happens inside changes settings or a library; settings are put back."""
    before = read_settings()
    try:
        yield
    finally:
        changes = find_changes(before)
        put_settings(before)
        changes += library.find_changes()
        if changes and not isinstance(sys.exception(), KeyboardInterrupt):
            raise PluginError(f"{about} changed {_name(changes)}, which all components share")
