"""Values by name: what they are made from follows from parameter names, and so do their keys."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from bench.components.base import Component
from bench.components.case import AXES, Case
from bench.engine.store import Store, key
from bench.errors import StoreError, UnknownName, suggestion

TENSORS, COST, SPEC = "value.safetensors", "cost.json", "spec.json"
ALONE = "value"  # the name, in a file, of a tensor that is a value by itself


@dataclass(frozen=True)
class Value:
    """A function of the vocabulary. Its positional parameters name axes and other values, which its key depends on;
    its keyword-only parameters name services of the harness (`Graph.services`), which decide where it is computed,
    never what."""

    function: Callable[..., Any]
    version: int
    stored: bool

    @property
    def name(self) -> str:
        return self.function.__name__


def value(version: int = 1, stored: bool = False) -> Callable[[Callable[..., Any]], Value]:
    """Declare a function of the vocabulary; bump `version` when its numbers change."""
    return lambda function: Value(function, version, stored)


def wanted(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the axes and values that a function is made from."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self")


class Vocabulary:
    """The closed list of values."""

    def __init__(self, values: Iterable[Value]) -> None:
        self.values = {v.name: v for v in values}
        self.reached: dict[tuple[str, ...], tuple[frozenset[str], frozenset[str]]] = {}

    def check(self, owner: str, function: Callable[..., Any]) -> None:
        """Raise UnknownName where a function names evidence that there is not."""
        for name in wanted(function):
            if name not in self.values and name not in AXES:
                raise UnknownName(
                    f"{owner} names unknown evidence {name!r}{suggestion(name, [*self.values, *AXES])}; "
                    "bench list evidence shows all"
                )

    def reach(self, names: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
        """The axes, and the values along the path, that some names depend on."""
        if names in self.reached:
            return self.reached[names]
        axes: frozenset[str] = frozenset()
        along: frozenset[str] = frozenset()
        for name in names:
            if name in AXES:
                axes |= {name}
            else:
                inner = self.reach(wanted(self.values[name].function))
                axes, along = axes | inner[0], along | inner[1] | {name}
        self.reached[names] = axes, along
        return axes, along

    def spec(self, made: str, names: tuple[str, ...], case: Case) -> str:
        """The text that is hashed: what is made, the versions along the path, the identities of the axes reached."""
        axes, along = self.reach(names)
        versions = {name: self.values[name].version for name in sorted(along)}
        chosen = {axis: identity(getattr(case, axis)) for axis in sorted(axes)}
        return json.dumps([made, versions, chosen])


def identity(choice: Any) -> str:
    """The text that stands for an axis's value in keys."""
    return choice.identity if isinstance(choice, Component) else str(choice)


def differences(before: str, after: str) -> list[str]:
    """What two specs of one value differ in, in words."""
    (made, versions, chosen), (made_now, versions_now, chosen_now) = json.loads(before), json.loads(after)
    old, new = (
        {"": m, **{f"{n} version": str(v) for n, v in vs.items()}, **c}
        for m, vs, c in ((made, versions, chosen), (made_now, versions_now, chosen_now))
    )
    return [
        f"{name} {old.get(name, 'nothing')} is now {new.get(name, 'nothing')}".strip()
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


class Graph:
    """The values of one case: from memory, from the store, or computed."""

    def __init__(self, vocabulary: Vocabulary, case: Case, store: Store, device: torch.device, memory: Memory) -> None:
        self.vocabulary, self.case, self.store, self.device, self.memory = vocabulary, case, store, device, memory
        self.specs: dict[str, str] = {}

    def spec(self, name: str) -> str:
        if name not in self.specs:
            self.specs[name] = self.vocabulary.spec(name, (name,), self.case)
        return self.specs[name]

    def key(self, name: str) -> str:
        return key(self.spec(name))

    def get(self, name: str) -> Any:
        """An axis's choice or a value, computed and stored at most once; a failure is not tried again."""
        if name in AXES:
            return getattr(self.case, name)
        return self.memory.get(self.spec(name), lambda: self._made(self.vocabulary.values[name]))

    def stored(self, names: Iterable[str]) -> list[str]:
        """The stored values that some names need, in the order in which they are computed."""
        found: list[str] = []
        for name in names:
            if name not in AXES:
                inner = self.stored(wanted(self.vocabulary.values[name].function))
                mine = [name] if self.vocabulary.values[name].stored else []
                found += [n for n in inner + mine if n not in found]
        return found

    def cost(self, name: str) -> list[dict[str, Any]]:
        """What a stored value cost when it was computed: the phases in its log."""
        return self._cost(name, self.key(name))

    def _cost(self, name: str, key: str) -> list[dict[str, Any]]:
        files = self.store.read(name, key, (COST,))
        if files is None:
            raise StoreError(f"stored {name} {key} was lost while the run used it; run it again")
        return json.loads(files[COST])

    def aside(
        self, name: str, spec: str, make: Callable[[Mapping[str, Any]], dict[str, Tensor]]
    ) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
        """Tensors that are no value of the vocabulary, and the phases of their cost, stored under a spec of the
        caller's: made by `make(services)` with the services `log` and `unfinished`."""
        found = self._kept(name, spec, True, make)
        return found, self._cost(name, key(spec))

    def beside(self, defense: Component) -> Graph:
        """The values of the case that has another defense, and nothing else another."""
        other = dataclasses.replace(self.case, defense=defense)
        return Graph(self.vocabulary, other, self.store, self.device, self.memory)

    def _made(self, made: Value) -> Any:
        if not made.stored:
            return self._computed(made, {})
        resumable = "unfinished" in _services(made)
        return self._kept(made.name, self.spec(made.name), resumable, functools.partial(self._computed, made))

    def _kept(self, name: str, spec: str, resumable: bool, make: Callable[[Mapping[str, Any]], Any]) -> Any:
        """What the store holds under a spec, or else what `make(services)` gives, which is stored."""
        found = self._found(name, key(spec))
        if found is not None:
            return found
        services: dict[str, Any] = {"log": []}
        with contextlib.ExitStack() as stack:
            if resumable:
                services["unfinished"] = stack.enter_context(self.store.unfinished(key(spec)))
                found = self._found(name, key(spec))  # another process may have finished it while this one waited
                if found is not None:
                    services["unfinished"].discard()
                    return found
            found = make(services)
            tensors = {ALONE: found} if isinstance(found, Tensor) else found
            self.store.write(
                name,
                key(spec),
                {
                    TENSORS: packed(tensors),
                    COST: json.dumps([dataclasses.asdict(phase) for phase in services["log"]], indent=1).encode(),
                    SPEC: spec.encode(),
                },
            )
            if resumable:
                services["unfinished"].discard()
        return found

    def _computed(self, made: Value, services: Mapping[str, Any]) -> Any:
        own = {
            "device": self.device,
            "cost": self.cost,
            "beside": self.beside,
            "aside": self.aside,
            "asked": lambda made, names: self.vocabulary.spec(made, names, self.case),
        }
        services = {**own, **services}
        given = {name: services[name] for name in _services(made)}
        return made.function(*(self.get(name) for name in wanted(made.function)), **given)

    def _found(self, name: str, key: str) -> Any:
        files = self.store.read(name, key, (TENSORS, COST))
        if files is None:
            return None
        placed = {part: tensor.to(self.device) for part, tensor in safetensors.torch.load(files[TENSORS]).items()}
        return placed[ALONE] if set(placed) == {ALONE} else placed


def _services(made: Value) -> list[str]:
    return [p.name for p in inspect.signature(made.function).parameters.values() if p.kind is p.KEYWORD_ONLY]


def packed(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as the bytes of a safetensors file; each gets memory of its own, which the format asks for."""
    return safetensors.torch.save({name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()})


class Memory:
    """Values in use, by spec. Failures are kept: what failed once in a run is not tried again in it."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.failures: dict[str, Exception] = {}

    def get(self, spec: str, make: Callable[[], Any]) -> Any:
        if spec in self.failures:
            raise self.failures[spec]
        if spec not in self.values:
            try:
                self.values[spec] = make()
            except Exception as error:
                self.failures[spec] = error
                raise
        return self.values[spec]

    def keep(self, specs: Iterable[str]) -> None:
        """Forget all values but these."""
        wanted_specs = set(specs)
        self.values = {spec: v for spec, v in self.values.items() if spec in wanted_specs}
