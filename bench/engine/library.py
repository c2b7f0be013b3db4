"""The functions and classes of libraries and plugins, as they were: whether something was replaced."""

from __future__ import annotations

import builtins
import functools
import inspect
import operator
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import nn

OWN = "bench"  # of whose modules also the constants count
# Where bench.guard puts other functions while a network runs, and modules that libraries change as they load.
UNWATCHED = ("torch.utils.checkpoint", "sys", "warnings", "threading")
TORCH = Path(torch.__file__).parent
BASES = (nn.Module, torch.optim.Optimizer, torch.autograd.Function)
PARTS = ("nn.functional", "nn.init", "autograd", "linalg", "fft", "special", "optim", "random", "overrides")


@dataclass
class _Place:
    """A module or a class, and what its names stood for; of a class, also those that are watched for a method."""

    label: str
    home: ModuleType | type
    kept: dict[str, Any]

    @functools.cached_property
    def names(self) -> Mapping[str, Any]:
        return vars(self.home)

    @functools.cached_property
    def values(self) -> list[Any]:
        return list(self.kept.values())

    def __post_init__(self) -> None:
        self.whole = dict(vars(self.home)) if isinstance(self.home, type) else None

    def has_changed(self) -> bool:
        """Whether to look closer. What is compared by identity first is compared as fast as C."""
        try:
            if self.whole is not None:
                return self.names != self.whole
            return list(map(self.names.get, self.kept)) != self.values
        except (RuntimeError, ValueError):  # of tensors and arrays that are not the same
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
            own = _is_own(module.__name__)
            kept = {
                name: value
                for name, value in vars(module).items()
                if callable(value) or (own and _is_constant(name, value))
            }
            self.places.append(_Place(module.__name__, module, kept))
            if own or module in others:
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
    return [m for m in dict.fromkeys([builtins, *own, torch, nn, *parts, *named]) if m.__name__ not in UNWATCHED]


def _is_constant(name: str, value: Any) -> bool:
    return not name.startswith("_") and not isinstance(value, ModuleType)


def _is_behaviour(value: Any) -> bool:
    return callable(value) or isinstance(value, property | classmethod | staticmethod)


def _is_own(module: str) -> bool:
    return module.partition(".")[0].startswith(OWN)
