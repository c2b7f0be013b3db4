"""The figures of papers, drawn from stored values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from bench.boards import Record
from bench.boards.submissions.attachments import Values
from bench.components import Case
from bench.engine import VOCABULARY, Cell, Graph, Memory, Shared, Store, read_record, read_stored_values
from bench.errors import EnvironmentProblem, UnknownName, suggestion
from bench.publishing.figures.canvas import Drawing
from bench.publishing.figures.pictures import NEEDS, Pictures, draw_maps, draw_masked, draw_reconstructions
from bench.publishing.figures.scores import (
    Scores,
    draw_budgets,
    draw_curves as draw_curves,
    draw_histograms,
    draw_levels,
    draw_seeds,
    draw_sweep,
    draw_tradeoff,
    draw_transfers,
)

OF_SCORES: dict[str, Callable[[Scores], Drawing]] = {
    "budgets": draw_budgets,
    "sweep": draw_sweep,
    "levels": draw_levels,
    "seeds": draw_seeds,
    "transfers": draw_transfers,
    "tradeoff": draw_tradeoff,
    "histograms": draw_histograms,
}
OF_PICTURES: dict[str, Callable[[Pictures], Drawing]] = {
    "maps": draw_maps,
    "reconstructions": draw_reconstructions,
    "masked": draw_masked,
}


def describe_figures() -> list[tuple[str, str]]:
    """Each figure's name, and what it shows."""
    return [(name, " ".join((draw.__doc__ or "").split())) for name, draw in {**OF_SCORES, **OF_PICTURES}.items()]


def draw_scores(
    name: str, cells: Sequence[Cell], store: Store, over: str, varied: Sequence[str], command: str
) -> Drawing:
    """Draw a figure of the stored records of cells. Raises EnvironmentProblem for those that are missing, with the
    command that computes them."""
    by_key = {cell.key: cell for cell in cells}
    records = {key: read_record(store, cell) for key, cell in by_key.items()}
    missing = [str(by_key[key]) for key, record in records.items() if record is None]
    if missing:
        raise _lack(name, "records", missing, len(by_key), command)
    pairs = [(by_key[key], record) for key, record in records.items() if record]
    return draw_records(name, pairs, read_stored_values((record for _, record in pairs), store), over, varied)


def draw_records(
    name: str,
    pairs: Sequence[tuple[Cell, Record]],
    values: Mapping[str, Values],
    over: str = "defense",
    varied: Sequence[str] = (),
) -> Drawing:
    """Draw a figure of records, each with its cell, and of their images' values by key."""
    if name not in OF_SCORES:
        raise UnknownName(f"no figure of scores called {name!r}{suggestion(name, OF_SCORES)}")
    return OF_SCORES[name](Scores(list(pairs), values, over, tuple(varied)))


def draw_pictures(
    name: str,
    cases: Sequence[Case],
    store: Store,
    device: torch.device,
    shared: Shared,
    image: int,
    over: str,
    varied: Sequence[str],
    command: str,
) -> Drawing:
    """Draw a figure of one image of some cases. Raises EnvironmentProblem for stored values that are missing, with the
    command that computes them."""
    memory = Memory(shared)
    graphs = [Graph(VOCABULARY, case, store, device, memory) for case in cases]
    lacking = {graph: [v for v in graph.stored(NEEDS) if not store.has(v, graph.key(v))] for graph in graphs}
    missing = [
        f"{', '.join(values)} of defense {graph.case.defense}, explainer {graph.case.explainer}, ball {graph.case.ball}"
        for graph, values in lacking.items()
        if values
    ]
    if missing:
        raise _lack(name, "cases", missing, len(graphs), command)
    return OF_PICTURES[name](Pictures(graphs, image, over, tuple(varied)))


def _lack(name: str, what: str, missing: Sequence[str], count: int, command: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"figure {name}: the store lacks {len(missing)} of {count} {what}, such as {missing[0]}; first run {command}"
    )
