"""Values by name: parameter names say what each is made from, and keys follow from these."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from bench.axes import AXES
from bench.components import Case, Component, Defense, remember
from bench.engine.locks import Busy
from bench.engine.phases import Phase
from bench.engine.shared import Shared
from bench.engine.store import SPEC, Store, Unfinished, pack_tensors
from bench.errors import StoreError, UnknownName, suggestion
from bench.keys import Spec, hash_spec

TENSORS, COST = "value.safetensors", "cost.json"
ALONE = "value"  # the name, in a file, of a tensor that is a value by itself

HANDS_OUT = {"train_data", "test_data", "recipe", "refit"}  # evidence through which components get whole data sets

Made = dict[str, Tensor]


@dataclass(frozen=True)
class Value:
    """A function of the vocabulary.

    Its positional parameters name axes and other values, which its key depends on. A keyword-only parameter `services`
    receives the harness's `Services`, which decide where the value is computed, never what it is. `keyed`: whether
    its name and version enter keys; a value that only groups others needs no version of its own. `runs`: the axes
    whose components' code runs here.
    """

    function: Callable[..., Any]
    version: int
    stored: bool
    keyed: bool
    runs: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def takes_services(self) -> bool:
        return "services" in inspect.signature(self.function).parameters


def value(
    version: int = 1, stored: bool = False, keyed: bool = True, runs: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], Value]:
    """Declare a function of the vocabulary. Raise `version` when its numbers change."""
    return lambda function: Value(function, version, stored, keyed, runs)


@functools.cache
def dependencies(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the axes and values that a function is made from."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self")


class Vocabulary:
    """The closed list of values."""

    def __init__(self, values: Iterable[Value]) -> None:
        self.values = {v.name: v for v in values}
        self.reached: dict[tuple[str, ...], tuple[frozenset[str], frozenset[str]]] = {}
        self.ordered: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.sorted: dict[tuple[str, ...], tuple[list[str], list[str]]] = {}

    def check(self, owner: str, function: Callable[..., Any]) -> None:
        """Raise UnknownName where a function names evidence that does not exist."""
        for name in dependencies(function):
            if name not in self.values and name not in AXES:
                raise UnknownName(
                    f"{owner} names unknown evidence {name!r}{suggestion(name, [*self.values, *AXES])}; "
                    "bench list evidence shows all"
                )

    def reach(self, names: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
        """The axes, and the keyed values along the path, that some names depend on."""
        if names in self.reached:
            return self.reached[names]
        axes: frozenset[str] = frozenset()
        along: frozenset[str] = frozenset()
        for name in names:
            if name in AXES:
                axes |= {name}
            else:
                inner = self.reach(dependencies(self.values[name].function))
                own = {name} if self.values[name].keyed else set()
                axes, along = axes | inner[0], along | inner[1] | own
        self.reached[names] = axes, along
        return axes, along

    def stored(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The stored values that some names need, in the order in which they are computed."""
        if names not in self.ordered:
            order: dict[str, None] = {}
            for name in names:
                if name not in AXES:
                    order |= dict.fromkeys(self.stored(dependencies(self.values[name].function)))
                    order |= {name: None} if self.values[name].stored else {}
            self.ordered[names] = tuple(order)
        return self.ordered[names]

    def spec(self, made: str, names: tuple[str, ...], case: Case) -> Spec:
        """The spec of what is made from some names in a case."""
        if names not in self.sorted:
            of_axes, keyed = self.reach(names)
            self.sorted[names] = sorted(of_axes), sorted(keyed)
        axes, along = self.sorted[names]
        choices: dict[str, str] = remember(case, "identities", dict)
        choices |= {axis: identity(getattr(case, axis)) for axis in axes if axis not in choices}
        versions = {name: self.values[name].version for name in along}
        return Spec(made, versions, {axis: choices[axis] for axis in axes})


def identity(choice: Any) -> str:
    """The text that stands for an axis's value in keys."""
    return choice.identity if isinstance(choice, Component) else str(choice)


@dataclass(frozen=True)
class Services:
    """What the harness offers to functions of the vocabulary besides the values that they name.

    `cost(name)`: what a stored value cost. `with_defense(defense, seed=None)`: the graph of the case with another
    defense, and with its seed or a given one.
    `spec_of(made, names)`: the spec of what is made from some names. `store_extra(name, spec, make)`: tensors that are
    no value of the vocabulary, and their cost; `make(services)` computes them where the store has none. `log` receives
    the cost of the value in the making; `unfinished` holds its checkpoints.
    """

    device: torch.device
    cost: Callable[[str], list[Phase]]
    with_defense: Callable[..., Graph]
    spec_of: Callable[[str, tuple[str, ...]], str]
    store_extra: Callable[[str, str, Callable[[Services], Made]], tuple[Made, list[Phase]]]
    log: list[Phase] = field(default_factory=list)
    unfinished: Unfinished | None = None

    @property
    def checkpoints(self) -> Unfinished:
        """`unfinished`, of a stored value."""
        assert self.unfinished is not None
        return self.unfinished


class Graph:
    """The values of one case: given, from memory, from the store, or computed.

    `given` holds values that take the place of the case's own, such as pictures of a user's instead of test images.
    What depends on them is neither stored nor shared with other graphs.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        case: Case,
        store: Store,
        device: torch.device,
        memory: Memory,
        given: Mapping[str, Any] | None = None,
    ) -> None:
        self.vocabulary, self.case, self.store, self.device, self.memory = vocabulary, case, store, device, memory
        self.given = dict(given or {})
        self.private = Memory(memory.shared)
        self.specs: dict[str, str] = {}
        self.keys: dict[str, str] = {}

    def spec(self, name: str) -> str:
        if name not in self.specs:
            self.specs[name] = str(self.vocabulary.spec(name, (name,), self.case))
        return self.specs[name]

    def key(self, name: str) -> str:
        if name not in self.keys:
            self.keys[name] = hash_spec(self.spec(name))
        return self.keys[name]

    def get(self, name: str) -> Any:
        """The choice along an axis, or a value, which is computed at most once. A failure is not tried again."""
        if name in self.given:
            return self.given[name]
        if name in AXES:
            return getattr(self.case, name)
        if self.memory.shared:
            self.memory.shared.audit()
        made = self.vocabulary.values[name]
        if self._depends_on_given(name):
            return self.private.get(self.spec(name), lambda: self._compute(made, self.services()))
        return self.memory.get(self.spec(name), lambda: self._load_or_compute(made))

    def _depends_on_given(self, name: str) -> bool:
        return not self.vocabulary.reach((name,))[1].isdisjoint(self.given)

    def stored(self, names: Iterable[str]) -> tuple[str, ...]:
        """The stored values that some names need, in the order in which they are computed."""
        return self.vocabulary.stored(tuple(names))

    def cost(self, name: str) -> list[Phase]:
        """What a stored value cost when it was computed: the phases in its log."""
        if self.store.look(name, self.key(name), (COST,)) is None:  # damaged: values made from it may be whole
            self._load_or_compute(self.vocabulary.values[name])
        return self._cost(name, self.key(name))

    def _cost(self, name: str, key: str) -> list[Phase]:
        files = self.store.read(name, key, (COST,))
        if files is None:
            raise StoreError(f"stored {name} {key} disappeared during the run; run it again")
        return [Phase(**row) for row in json.loads(files[COST])]

    def services(self) -> Services:
        """The services of one computation."""
        return Services(self.device, self.cost, self.with_defense, self.spec_of, self.store_extra)

    def spec_of(self, made: str, names: tuple[str, ...]) -> str:
        return str(self.vocabulary.spec(made, names, self.case))

    def store_extra(self, name: str, spec: str, make: Callable[[Services], Made]) -> tuple[Made, list[Phase]]:
        tensors = self._keep(name, spec, make)
        return tensors, self._cost(name, hash_spec(spec))

    def with_defense(self, defense: Defense, seed: int | None = None) -> Graph:
        """The values of the case that differs in its defense alone, or in its seed as well."""
        other = dataclasses.replace(self.case, defense=defense, seed=self.case.seed if seed is None else seed)
        return Graph(self.vocabulary, other, self.store, self.device, self.memory)

    def _load_or_compute(self, made: Value) -> Any:
        if not made.stored:
            return self._compute(made, self.services())
        return self._keep(made.name, self.spec(made.name), functools.partial(self._compute, made))

    def _compute(self, made: Value, services: Services) -> Any:
        named = {"services": services} if made.takes_services else {}
        names = dependencies(made.function)
        make = functools.partial(made.function, *map(self.get, names), **named)
        return self.call([getattr(self.case, axis) for axis in made.runs], make, names) if made.runs else make()

    def call(self, components: Iterable[Component], make: Callable[[], Any], names: Iterable[str]) -> Any:
        """Call a function that runs components, and that is made from some evidence, as `Shared.call` does."""
        if self.memory.shared is None:
            return make()
        who = " or ".join(dict.fromkeys(f"{component.kind} {component}" for component in components))
        return self.memory.shared.call(who, make, hands_out=not HANDS_OUT.isdisjoint(names))

    def _keep(self, name: str, spec: str, make: Callable[[Services], Any]) -> Any:
        """What the store holds under a spec, or else what `make(services)` returns, which is then stored."""
        key = hash_spec(spec)
        stored = self._load(name, key)
        while stored is None:
            try:
                with self.store.unfinished(key) as unfinished:
                    stored = self._load(name, key)  # another process may have finished it just now
                    if stored is None:
                        stored = self._make(name, spec, unfinished, make)
                    unfinished.discard()
            except Busy:
                if self.memory.hurries:
                    raise
                self.store.warn(f"waiting for another process that computes {key}")
                self.store.wait([key])
        return stored

    def _make(self, name: str, spec: str, unfinished: Unfinished, make: Callable[[Services], Any]) -> Any:
        services = dataclasses.replace(self.services(), unfinished=unfinished)
        made = make(services)
        files = {
            TENSORS: pack_tensors({ALONE: made} if isinstance(made, Tensor) else made),
            COST: json.dumps([phase.as_row() for phase in services.log], indent=1).encode(),
            SPEC: spec.encode(),
        }
        self.store.write(name, hash_spec(spec), files)
        return made

    def _load(self, name: str, key: str) -> Any:
        files = self.store.read(name, key, (TENSORS, COST))
        if files is None:
            return None
        placed = {part: tensor.to(self.device) for part, tensor in safetensors.torch.load(files[TENSORS]).items()}
        return placed[ALONE] if set(placed) == {ALONE} else placed


class Memory:
    """Values in use, by spec. What failed once in a run is not tried again in it.

    `shared` guards the calls that make them, and has them made again where a component has changed them. `hurries`:
    whether a value on which another process works raises Busy, rather than being waited for.
    """

    def __init__(self, shared: Shared | None = None, hurries: bool = False) -> None:
        self.shared = shared
        self.hurries = hurries
        self.values: dict[str, Any] = {}
        self.failures: dict[str, Exception] = {}
        if shared:
            shared.on_change(self.values.clear)

    def get(self, spec: str, make: Callable[[], Any]) -> Any:
        if spec in self.failures:
            raise self.failures[spec]
        if spec not in self.values:
            try:
                made = make()
            except Busy:
                raise
            except Exception as error:
                self.failures[spec] = error
                raise
            if self.shared:
                self.shared.remember(spec, made)
            self.values[spec] = made
        return self.values[spec]

    def keep(self, specs: Iterable[str]) -> None:
        """Forget all values but these."""
        kept = set(specs)
        for spec in [spec for spec in self.values if spec not in kept]:
            del self.values[spec]
        if self.shared:
            self.shared.keep(kept)
