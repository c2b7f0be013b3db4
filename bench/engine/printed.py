"""The cells of a board's protocol that have a printed figure, and what each takes to compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

from bench.boards import AREA, Figure, Place, Protocol
from bench.boards.render import draw_table
from bench.components import Case, Metric
from bench.engine.catalog import Catalog
from bench.engine.cells import find_refusal, list_needs
from bench.engine.evidence import VOCABULARY
from bench.engine.graph import Graph, Memory, dependencies
from bench.engine.store import Store

Needs = dict[tuple[str, ...], Case]  # stored values, by name and by the choices that they depend on


@dataclass(frozen=True)
class PrintedCell:
    """A figure, the stored values that it takes here over all seeds and budgets, and why it cannot be had, or ""."""

    place: Place
    figure: Figure
    needs: Needs
    problem: str


def list_printed(
    protocol: Protocol, cases: Sequence[Case], metrics: Sequence[Metric], catalog: Catalog, store: Store
) -> list[PrintedCell]:
    """The cells with a figure of the protocol's paper, in its order. Needs no data: there are no keys."""
    assert protocol.paper is not None
    by_text = {str(metric): metric for metric in metrics}
    known = [(case, {axis: str(choice) for axis, choice in case.axes.items()}) for case in cases]
    cells = []
    for place, figure in protocol.paper.figures.items():
        metric, needs, refusals = by_text.get(place.metric), Needs(), []
        names = dependencies(type(metric).__call__) if metric else ()
        reached = VOCABULARY.reach(names)[0]
        fits = _choose_attack(protocol, place) if "attack" in reached else lambda case: True
        mine = [each for each in known if all(each[1][axis] == text for axis, text in place.axes) and fits(each[0])]
        for case, texts in {tuple(each[1][axis] for axis in sorted(reached)): each for each in mine}.values():
            refusals.append(find_refusal(catalog, case, names, metric))
            graph = Graph(VOCABULARY, case, store, torch.device("cpu"), Memory())
            for name in graph.stored(list_needs(case, names)):
                axes = sorted(VOCABULARY.reach((name,))[0])
                needs[name, *(texts[axis] for axis in axes)] = case
        problem = next((f"refused: {refusal}" for refusal in refusals if refusal), "")
        cells.append(PrintedCell(place, figure, needs, problem if refusals else "not in this protocol"))
    return cells


def _choose_attack(protocol: Protocol, place: Place) -> Callable[[Case], bool]:
    """Which cases a figure of an attacked cell is about: of the protocol's first attack and of the score's or its
    largest budget where the paper does not say."""
    attack = place.attack or protocol.choices("attack")[0]
    norm, _, eps = place.ball.partition(":")
    if eps == AREA:
        return lambda case: str(case.attack) == attack and case.ball.norm == norm and case.ball.eps > 0
    balls = protocol.choices("ball")
    largest = max(balls, key=lambda ball: Fraction(ball.partition(":")[2]))
    ball = place.ball or (protocol.score.ball if protocol.score else "") or largest
    return lambda case: str(case.attack) == attack and str(case.ball) == ball


def describe_printed(protocol: Protocol, cells: Sequence[PrintedCell], width: int | None = None) -> str:
    """A table of the cells, with the work that each takes alone and all take together."""
    assert protocol.paper is not None
    rows = []
    for cell in cells:
        row = ", ".join(text for _, text in cell.place.axes)
        under = " ".join(part for part in (cell.place.attack, cell.place.ball) if part)
        cost = cell.problem or _describe_work(cell.needs)
        rows.append([row, cell.place.metric, under, str(cell.figure), cost])
    table = draw_table(["row", "metric", "under", "printed", "takes"], rows, width)
    every = {key: case for cell in cells for key, case in cell.needs.items()}
    return f"{protocol.paper.source}\n\n{table}\n\n{len(cells)} printed cells: {_describe_work(every)}"


def _describe_work(needs: Needs) -> str:
    of = {name: [case for key, case in needs.items() if key[0] == name] for name in dict.fromkeys(k[0] for k in needs)}
    trained = of.pop("trained", [])
    epochs, count = sum(case.schedule.epochs for case in trained if case.defense.trains), len(trained)
    parts = [f"{count} training{'s' if count > 1 else ''} ({epochs} epochs)"] if epochs else []
    if prepared := len(of.get("prepared", [])):
        parts.append(f"{prepared} explainers trained")
    for words, names in (("attacked", ("attack_run",)), ("explained", ("clean_attributions", "attacked_attributions"))):
        images = sum(case.samples for name in names for case in of.get(name, []))
        if images:
            parts.append(f"{images} images {words}")
    return ", ".join(parts) or "images classified alone"
