"""The contracts of components as callables, chosen by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.components.base import Component, parameters
from bench.engine.catalog import Catalog, installed
from bench.errors import BadValue, BenchError, UnknownName, short, suggestion
from bench.testing.contracts import CONTRACTS


@dataclass(frozen=True)
class Check:
    """One contract of one component, given by its text. A call raises ContractBroken, or what the component raises."""

    contract: Callable[[Any, Catalog], None]
    kind: str
    text: str
    catalog: Catalog

    def __call__(self) -> None:
        self.contract(self.catalog.read(self.kind, self.text), self.catalog)

    def __str__(self) -> str:
        return f"{self.kind}-{self.text}-{self.contract.__name__}"

    @property
    def words(self) -> str:
        """The contract in words."""
        return self.contract.__name__.replace("_", " ")

    def failure(self) -> str:
        """Why the contract does not hold, in one line; an error of the component's own with file and line. "" where it
        holds."""
        try:
            self()
        except BenchError as error:
            return " ".join(str(error).split())
        except Exception as error:
            cls = self.catalog.find(self.kind, self.text.partition(":")[0])
            return short(error, cls.__module__.split(".")[0])
        return ""


def checks(kind: str | None = None, name: str | None = None, catalog: Catalog | None = None) -> list[Check]:
    """The contracts of a component, of a kind, or of everything installed, each with every text in `examples`.

    A name may carry parameters, "smoothgrad:samples=4", and is then the only text. Among many, a component without
    examples is left out; by itself it has to come with its parameters where it requires any.
    """
    catalog = catalog or installed()
    if kind is None or name is None:
        kinds = [kind] if kind else list(catalog.components)
        return [check for each in kinds for cls in catalog.of(each).values() for check in _all(cls, catalog)]
    cls = catalog.find(kind, name.strip().partition(":")[0])
    if ":" in name:
        return _contracts(kind, str(catalog.read(kind, name)), catalog)
    if not texts(cls):
        if _required(cls):
            raise BadValue(without_examples(cls))
        return _contracts(kind, name, catalog)
    return _all(cls, catalog)


def named(asked: str | None, catalog: Catalog) -> tuple[list[Check], list[str]]:
    """The checks that one word asks for (a kind, KIND:NAME, a distribution or entry point, None for everything), and
    what to say of the components that are left out."""
    kind, colon, text = (asked or "").partition(":")
    homes = [each for each, theirs in catalog.components.items() if kind in theirs]
    plugins = {name for plugin in catalog.plugins for name in (plugin.name, plugin.distribution)}
    if homes and kind not in catalog.components and (colon or kind not in plugins):
        raise BadValue(f"{asked!r} names no kind; write KIND:NAME, such as {homes[0]}:{asked}")
    if colon:
        return checks(kind, text, catalog), []
    classes = [cls for each in catalog.components for cls in catalog.of(each).values()]
    if asked in catalog.components:
        classes = list(catalog.of(asked).values())
    elif asked in plugins:
        sources = catalog.sources
        classes = [cls for cls in classes if asked in (sources[cls].name, sources[cls].distribution)]
    elif asked is not None:
        known = [*catalog.components, *plugins, *(name for theirs in catalog.components.values() for name in theirs)]
        raise UnknownName(f"no kind, distribution or entry point called {asked!r}{suggestion(asked, known)}")
    return (
        [check for cls in classes for check in _all(cls, catalog)],
        [without_examples(cls) for cls in classes if not texts(cls)],
    )


def texts(cls: type[Component]) -> list[str]:
    """The texts in `examples` in full; "" counts as none where a parameter is required."""
    return [f"{cls.name}:{text}" if text else cls.name for text in cls.examples if text or not _required(cls)]


def without_examples(cls: type[Component]) -> str:
    """What to say of a component that has no examples."""
    needs = ", ".join(_required(cls))
    given = ",".join(f"{name}=..." for name in _required(cls))
    return (
        f"{cls.kind} {cls.name} needs {needs} and has no examples to check it with: give values, as in "
        f"{cls.kind}:{cls.name}:{given}"
        if needs
        else f"{cls.kind} {cls.name} has no examples; check it by name, as {cls.kind}:{cls.name}"
    )


def _required(cls: type[Component]) -> list[str]:
    return [parameter.name for parameter in parameters(cls).values() if parameter.required]


def _all(cls: type[Component], catalog: Catalog) -> list[Check]:
    return [check for text in texts(cls) for check in _contracts(cls.kind, text, catalog)]


def _contracts(kind: str, text: str, catalog: Catalog) -> list[Check]:
    contracts = (*CONTRACTS[""], *CONTRACTS[kind])
    try:
        catalog.read(kind, text)
    except Exception:
        contracts = contracts[:1]  # an example that cannot be read: one failure says so, not one of every contract
    return [Check(contract, kind, text, catalog) for contract in contracts]
