"""Installed components and the evidence vocabulary in words, for `bench list` and `bench show`."""

from __future__ import annotations

import inspect
import re

from bench.boards.render import draw_table, wrap
from bench.components import Component, Metric, parameters, write
from bench.engine.catalog import Catalog
from bench.engine.evidence import VOCABULARY
from bench.engine.graph import dependencies
from bench.errors import BadValue

SENTENCE = re.compile(r"(?<!\bal)\.\s.*|\.$")  # what follows the first one
CITATION = re.compile(r" \((?:[^()]|\([^()]*\))*\b(?:19|20)\d\d\b(?:[^()]|\([^()]*\))*\)")


def list_components(catalog: Catalog, kind: str | None, width: int | None = None) -> str:
    """A table of the components of a kind, or of all. With a width, it fits a terminal of that many characters."""
    rows = []
    for each in [kind] if kind else catalog.components:
        for name, cls in catalog.of(each).items():
            plugin = catalog.sources[cls]
            rows.append([each, name, f"{plugin.distribution} {plugin.version}", _summarise(cls)])
    headers, sources = ["kind", "name", "from", "what"], {source for _, _, source, _ in rows}
    if width is None or len(sources) != 1:
        return draw_table(headers, rows, width, (0, 1))
    same = {0, 2} if kind else {2}  # columns that say the same in all rows
    headers, *rows = ([cell for place, cell in enumerate(row) if place not in same] for row in (headers, *rows))
    return f"from {sources.pop()}\n\n{draw_table(headers, rows, width, range(len(headers) - 1))}"


def list_evidence(width: int | None = None) -> str:
    """A table of everything that a metric can ask for."""
    rows = [[name, " ".join((value.function.__doc__ or "").split())] for name, value in VOCABULARY.values.items()]
    return draw_table(["evidence", "what"], rows, width, (0,))


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


def describe_component(catalog: Catalog, cls: type[Component], width: int | None = None) -> str:
    """Version, plugin, docstring, parameters, presets and paper of a component."""
    plugin = catalog.sources[cls]
    paragraphs = (inspect.getdoc(cls) or "").split("\n\n")
    parts = [
        wrap(f"{cls.kind} {cls.name}, version {cls.version}, from {plugin.distribution} {plugin.version}", width),
        *(paragraph if width is None else wrap(" ".join(paragraph.split()), width) for paragraph in paragraphs),
    ]
    rows = [
        [p.name, "required" if p.required else write(p.default), p.accepts, p.help] for p in parameters(cls).values()
    ]
    if rows:
        parts.append(draw_table(["parameter", "default", "takes", "meaning"], rows, width, (0,)))
    if issubclass(cls, Metric):
        parts.append(wrap(f"{_describe_direction(cls)}\nmade from {', '.join(dependencies(cls.__call__))}", width))
    if cls.presets:
        parts.append("\n".join(f"preset {cls.name}:{name} is {cls.name}:{text}" for name, text in cls.presets.items()))
    if cls.paper:
        parts.append(cls.paper.bibtex)
    return "\n\n".join(part for part in parts if part)


def _describe_direction(cls: type[Metric]) -> str:
    by_class = "higher" if cls.better is Metric.better else cls.better
    unit = f", in {cls.unit}" if cls.unit else ""
    if isinstance(by_class, str):
        return f"{by_class} is better{unit}: {cls.help}"
    known = parameters(cls)
    deciding = [name for name, each in known.items() if isinstance(each.type, type) and issubclass(each.type, Metric)]
    what = f"its {deciding[0]} decides" if len(deciding) == 1 else "its parameters decide"
    default = "" if any(each.required for each in known.values()) else f"; with the default, {cls().better} is"
    return f"{cls.help}{unit}\n{what} whether higher or lower is better{default}"


def _summarise(cls: type[Component]) -> str:
    """The first sentence of a component's docstring, without its citations."""
    text = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
    return SENTENCE.sub("", CITATION.sub("", text)).rstrip(":")
