"""The contracts of components as callables, selected by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.components import Component, parameters
from bench.engine import Catalog, installed, qualify
from bench.errors import BadValue, BenchError, UnknownName, suggestion, summarise_error
from bench.testing.contracts import CONTRACTS, Contract


@dataclass(frozen=True)
class Check:
    """One contract of one component, which is given by its text.

    A call raises ContractBroken, or whatever the component raises.
    """

    contract: Contract
    kind: str
    text: str
    catalog: Catalog

    def __call__(self) -> None:
        self.contract(self.catalog.read(self.kind, self.text), self.catalog)

    def __str__(self) -> str:
        return f"{self.kind}-{self.text}-{self.contract.__name__}"

    @property
    def component(self) -> str:
        """Kind and text of the component."""
        return f"{self.kind} {self.text}"

    @property
    def words(self) -> str:
        """The contract in words."""
        return self.contract.__name__.replace("_", " ")

    def failure(self) -> str:
        """Why the component breaks the contract, in one line; "" where it keeps it.

        An error that the component itself raised comes with its file and line.
        """
        try:
            self()
        except BenchError as error:
            return " ".join(str(error).split())
        except Exception as error:
            cls = self.catalog.find(self.kind, self.text.partition(":")[0])
            return summarise_error(error, cls.__module__.split(".")[0])
        return ""


def checks(kind: str | None = None, name: str | None = None, catalog: Catalog | None = None) -> list[Check]:
    """The contracts of one component, of a kind, or of everything installed, once for every text in `examples`.

    A name with parameters, such as "smoothgrad:samples=4", is checked with these alone. Components without examples are
    left out unless they are named; raises BadValue where a named one has a required parameter and no examples.
    """
    catalog = catalog or installed()
    if kind is None or name is None:
        kinds = [kind] if kind else list(catalog.components)
        return [check for each in kinds for cls in catalog.of(each).values() for check in _check_examples(cls, catalog)]
    cls = catalog.find(kind, name.strip().partition(":")[0])
    if ":" in name:
        return _check_text(kind, str(catalog.read(kind, name)), catalog)
    if not _example_texts(cls):
        if _required(cls):
            raise BadValue(_describe_lack(cls))
        return _check_text(kind, name, catalog)
    return _check_examples(cls, catalog)


def select_checks(name: str | None, catalog: Catalog) -> tuple[list[Check], list[str]]:
    """The checks that a name selects, and why components among them are left out.

    The name is a kind, KIND:NAME, a distribution or an entry point; None selects everything.
    """
    if name is not None and ":" in name and name.partition(":")[0] in catalog.components:
        kind, _, text = name.partition(":")
        return checks(kind, text, catalog), []
    classes = _find_classes(name, catalog)
    return (
        [check for cls in classes for check in _check_examples(cls, catalog)],
        [_describe_lack(cls) for cls in classes if not _example_texts(cls)],
    )


def _find_classes(name: str | None, catalog: Catalog) -> Sequence[type[Component]]:
    """All classes, or those of a kind, a distribution or an entry point."""
    if name in catalog.components:
        return list(catalog.of(name).values())
    classes = [cls for kind in catalog.components for cls in catalog.of(kind).values()]
    if name is None:
        return classes
    plugins = {label for plugin in catalog.plugins for label in (plugin.name, plugin.distribution)}
    if name in plugins:
        return [cls for cls in classes if name in (catalog.sources[cls].name, catalog.sources[cls].distribution)]
    choices = qualify(catalog, name)
    if choices:
        raise BadValue(f"{name!r} names no kind; write {' or '.join(choices)}")
    kind, colon, _ = name.partition(":")
    if colon:
        catalog.of(kind)
    known = [*catalog.components, *plugins, *(cls.name for cls in classes)]
    raise UnknownName(f"no kind, distribution or entry point called {name!r}{suggestion(name, known)}")


def _example_texts(cls: type[Component]) -> list[str]:
    """The texts in `examples` in full; "" counts as none where a parameter is required."""
    return [f"{cls.name}:{text}" if text else cls.name for text in cls.examples if text or not _required(cls)]


def _describe_lack(cls: type[Component]) -> str:
    """Why a component without examples cannot be checked, and how it can."""
    required = _required(cls)
    if not required:
        return f"{cls.kind} {cls.name} has no examples; check it by name, as {cls.kind}:{cls.name}"
    values = ",".join(f"{name}=..." for name in required)
    return (
        f"{cls.kind} {cls.name} has no examples to check and requires {', '.join(required)}; give values, as in "
        f"{cls.kind}:{cls.name}:{values}"
    )


def _required(cls: type[Component]) -> list[str]:
    return [parameter.name for parameter in parameters(cls).values() if parameter.required]


def _check_examples(cls: type[Component], catalog: Catalog) -> list[Check]:
    return [check for text in _example_texts(cls) for check in _check_text(cls.kind, text, catalog)]


def _check_text(kind: str, text: str, catalog: Catalog) -> list[Check]:
    contracts = CONTRACTS[kind]
    try:
        catalog.read(kind, text)
    except Exception:
        contracts = contracts[:1]  # a text that cannot be read fails once, not once for every contract
    return [Check(contract, kind, text, catalog) for contract in contracts]
