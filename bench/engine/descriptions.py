"""Installed components and the evidence vocabulary in words, for `bench list` and `bench show`."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Sequence

from tabulate import tabulate

from bench.components import Component, Metric, parameters, write
from bench.engine.catalog import Catalog
from bench.engine.evidence import VOCABULARY
from bench.engine.graph import dependencies
from bench.errors import BadValue

WIDTH = 90  # of a summary in a table


def list_components(catalog: Catalog, kind: str | None) -> str:
    """A table of the components of a kind, or of all."""
    rows = []
    for each in [kind] if kind else catalog.components:
        for name, cls in catalog.of(each).items():
            plugin = catalog.sources[cls]
            rows.append([each, name, _summarise(cls), f"{plugin.distribution} {plugin.version}"])
    return _tabulate(rows, ["kind", "name", "what", "from"])


def list_evidence() -> str:
    """A table of everything that a metric can ask for."""
    rows = [[name, " ".join((value.function.__doc__ or "").split())] for name, value in VOCABULARY.values.items()]
    return _tabulate(rows, ["evidence", "what"])


def find_component(catalog: Catalog, text: str) -> type[Component]:
    """The class of a text KIND:NAME. Raises an error that says what to write instead where there is none."""
    kind, colon, name = text.partition(":")
    if colon:
        return catalog.find(kind, name)
    if text in catalog.components:
        raise BadValue(f"{text!r} is a kind; bench list {text} shows its components")
    raise BadValue(f"{text!r} names no kind; write {' or '.join(qualify(catalog, text)) or f'KIND:{text}'}")


def qualify(catalog: Catalog, text: str) -> list[str]:
    """KIND:TEXT for every kind that has a component of that name; the text may carry parameters."""
    name = text.partition(":")[0]
    return [f"{kind}:{text}" for kind, classes in catalog.components.items() if name in classes]


def describe_component(catalog: Catalog, cls: type[Component]) -> str:
    """Version, plugin, docstring, parameters, presets and paper of a component."""
    plugin = catalog.sources[cls]
    parts = [
        f"{cls.kind} {cls.name}, version {cls.version}, from {plugin.distribution} {plugin.version}",
        inspect.getdoc(cls) or "",
    ]
    rows = [
        [p.name, "required" if p.required else write(p.default), p.accepts, p.help] for p in parameters(cls).values()
    ]
    if rows:
        parts.append(_tabulate(rows, ["parameter", "default", "takes", "meaning"]))
    if issubclass(cls, Metric):
        by_class = "higher" if cls.better is Metric.better else cls.better
        better = by_class if isinstance(by_class, str) else "higher or lower, by its parameters,"
        parts.append(
            f"{better} is better{f', in {cls.unit}' if cls.unit else ''}: {cls.help}\n"
            f"made from {', '.join(dependencies(cls.__call__))}"
        )
    if cls.presets:
        parts.append("\n".join(f"preset {cls.name}:{name} is {cls.name}:{text}" for name, text in cls.presets.items()))
    if cls.paper:
        parts.append(cls.paper.bibtex)
    return "\n\n".join(part for part in parts if part)


def _summarise(cls: type[Component]) -> str:
    """The first sentence of a component's docstring, cut to fit a table."""
    sentence = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ").split(". ")[0].split(" (")[0]
    return textwrap.shorten(sentence.rstrip(".:"), WIDTH, placeholder=" ...")


def _tabulate(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    return str(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True))
