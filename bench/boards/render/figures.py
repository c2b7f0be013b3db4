"""The plots of a board: score against usefulness and cost, curves over budgets and levels, histograms over images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from markupsafe import Markup

from bench.boards.board import Board, Row
from bench.boards.columns import Column
from bench.boards.ranking import CONTROLS
from bench.boards.record import Record
from bench.boards.render.plots import Series, draw_curves, draw_histogram, draw_points
from bench.boards.render.wording import group_rows, label_row, name_column


@dataclass(frozen=True)
class Figure:
    svg: Markup
    caption: str


def draw_figures(board: Board) -> list[Figure]:
    """The plots of each group of rivals."""
    if board.score is None:
        return []
    colours = _choose_colours(board)
    return [
        Figure(figure.svg, f"{group}: {figure.caption}" if group else figure.caption)
        for group, rows in group_rows(board).items()
        if group != CONTROLS
        for draw, column in (
            (_plot_tradeoff, board.score),
            (_plot_budgets, board.measured),
            (_plot_levels, board.measured),
        )
        if column
        for figure in draw(board, column, rows, colours)
    ]


def _choose_colours(board: Board) -> dict[str, int]:
    """The colour of each row that is no control, by name; rows of one label share it."""
    rows = [row for row in board.rows if not row.control]
    rows.sort(key=lambda row: board.reference(row) is not row)  # the reference has the colour of the text
    labels = {row.name: label_row(board, row) for row in rows}
    places = {label: place for place, label in enumerate(dict.fromkeys(labels.values()))}
    return {name: places[label] for name, label in labels.items()}


def _plot_tradeoff(board: Board, score: Column, rows: Sequence[Row], colours: Mapping[str, int]) -> Iterator[Figure]:
    """The score against a metric of usefulness; the size of a point shows a cost."""
    assert board.protocol.score is not None
    by_metric = {column.metric: column for column in reversed(board.summary)}
    against, cost = (by_metric.get(metric) for metric in (board.protocol.score.against, board.protocol.score.cost))
    if against is None:
        return
    costs = {row.name: (board.cell(row, cost).value if cost else None) or 0.0 for row in rows}
    highest = max(costs.values())
    series = []
    for row in rows:
        x, y, ratio = board.cell(row, against).value, board.cell(row, score).value, costs[row.name]
        if x is not None and y is not None:
            label = label_row(board, row) + (f" ({ratio:.1f} x)" if ratio else "")
            size = math.sqrt(ratio / highest) if ratio else 0.0
            series.append(Series(label, [(round(x, 3), round(y, 3))], colours.get(row.name), size))
    if len({one.points[0] for one in series}) < 2:
        return
    best = [board.described[column.metric].better == "higher" for column in (against, score)]
    size_note = f" Larger points have a higher {board.protocol.score.cost}." if highest else ""
    caption = (
        f"{name_column(score)} against {name_column(against)}.{size_note} The dotted line joins the rows that no other "
        "row beats in both; controls are grey."
    )
    yield Figure(draw_points(series, against.metric, score.metric, (best[0], best[1])), caption)


def _plot_budgets(board: Board, score: Column, rows: Sequence[Row], colours: Mapping[str, int]) -> Iterator[Figure]:
    norm = score.ball.partition(":")[0]
    eps = {
        column: column.ball.partition(":")[2]
        for column in board.columns
        if (column.metric, column.attack) == (score.metric, score.attack)
        and not column.over
        and column.ball.startswith(f"{norm}:")
    }
    columns = sorted(eps, key=lambda column: Fraction(eps[column]))
    if len(columns) < 2:
        return
    marks = [(float(Fraction(eps[column])), eps[column]) for column in columns]
    series = []
    for row in rows:
        values = [value for column in columns if (value := board.cell(row, column).value) is not None]
        if len(values) == len(columns):
            curve = [(at, round(value, 4)) for (at, _), value in zip(marks, values, strict=True)]
            series.append(Series(label_row(board, row), curve, colours.get(row.name)))
    if series:
        name = ", ".join(part for part in (score.metric, score.attack) if part)
        yield Figure(draw_curves(series, f"eps ({norm})", score.metric, marks), f"{name} by budget.")


def _plot_levels(board: Board, score: Column, rows: Sequence[Row], colours: Mapping[str, int]) -> Iterator[Figure]:
    attacks = ["", *(str(text) for text in board.protocol.axes["attack"][:1])]
    for column in (c for c in board.columns if c.attack in attacks and c.ball in ("", board.ball)):
        series = []
        for row in rows:
            estimate = board.cell(row, column).estimate
            curve = _average_levels(estimate.records) if estimate else []
            if len(curve) > 2:
                series.append(Series(label_row(board, row), curve, colours.get(row.name)))
        if series:
            yield Figure(draw_curves(series, "level, %", column.metric), f"{name_column(column)} by level.")


def _average_levels(records: Sequence[Record]) -> list[tuple[float, float]]:
    """The mean over seeds at each level whose name is a percentage."""
    levels: dict[float, list[float]] = {}
    for record in records:
        for name, value in record.levels.items():
            if value is not None and name.endswith("%") and name[:-1].replace(".", "", 1).isdigit():
                levels.setdefault(float(name[:-1]), []).append(value)
    return [(level, round(math.fsum(v) / len(v), 4)) for level, v in sorted(levels.items()) if len(v) == len(records)]


def draw_histograms(board: Board) -> dict[str, Markup]:
    """By the names of rows, the score image by image, all on one scale."""
    values = {row.name: _list_values(board, row) for row in board.rows}
    every = [value for those in values.values() for value in those]
    return {name: draw_histogram(those, min(every), max(every)) for name, those in values.items() if len(those) > 1}


def _list_values(board: Board, row: Row) -> list[float]:
    estimate = board.cell(row, board.measured).estimate if board.measured else None
    images = estimate.images.values() if estimate else ()
    return [value for values in images for value in values if value is not None]
