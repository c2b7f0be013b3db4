"""The plots of a board: score against usefulness and cost, curves over budgets and levels, histograms over images."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from markupsafe import Markup

from bench.boards.board import Board, Row
from bench.boards.columns import SHARE, Column
from bench.boards.ranking import CONTROLS
from bench.boards.record import Record
from bench.boards.render.plots import Series, draw_curves, draw_histogram, draw_points, find_far, find_front
from bench.boards.render.wording import group_rows, label_row, title_column

# The colours of the picture, by number: the reference row has that of the text.
REFERENCE, FRONT, REST = 0, 1, 6
MOST = 12  # names in a caption


@dataclass(frozen=True)
class Figure:
    svg: Markup
    caption: str


def draw_figures(board: Board) -> list[Figure]:
    """The plots of each group of rivals."""
    if board.measured is None:
        return []
    colours = _choose_colours(board)
    return [
        Figure(figure.svg, f"{group}: {figure.caption}" if group else figure.caption)
        for group, rows in _group_leading(board).items()
        for draw in (_plot_budgets, _plot_levels)
        for figure in draw(board, board.measured, rows, colours)
    ]


def _group_leading(board: Board) -> dict[str, list[Row]]:
    names = {row.name for row in board.leading}
    groups = {group: [row for row in rows if row.name in names] for group, rows in group_rows(board).items()}
    return {group: rows for group, rows in groups.items() if rows and group != CONTROLS}


def _choose_colours(board: Board) -> dict[str, int]:
    """The colour of each row that is no control, by name; rows of one label share it."""
    rows = [row for row in board.rows if not row.control]
    rows.sort(key=lambda row: board.reference(row) is not row)  # the reference has the colour of the text
    labels = {row.name: label_row(board, row) for row in rows}
    places = {label: place for place, label in enumerate(dict.fromkeys(labels.values()))}
    return {name: places[label] for name, label in labels.items()}


def draw_picture(board: Board, most: int = 6) -> list[Figure]:
    """The score against usefulness, a panel for each group of rivals: what a board shows at first sight."""
    groups = [(group, rows) for group, rows in group_rows(board).items() if group != CONTROLS]
    size = (440, 300) if len(groups[:most]) == 1 else (330, 250)
    panels = (_plot_tradeoff(board, group, rows, size) for group, rows in groups)
    return list(itertools.islice((panel for panel in panels if panel), most))


def find_against(board: Board) -> Column | None:
    """The column of the usefulness that is shown beside the score."""
    score = board.protocol.score
    metrics = [score.against, *score.needs] if score else []
    return next((c for metric in metrics for c in board.summary if c.metric == metric), None)


def find_cost(board: Board) -> Column | None:
    """The column of the cost that is shown beside the score."""
    metric = board.protocol.score.cost if board.protocol.score else ""
    return next((column for column in board.summary if column.metric == metric), None)


def _plot_tradeoff(board: Board, group: str, rows: Sequence[Row], size: tuple[int, int]) -> Figure | None:
    """The score against a metric of usefulness; the size of a point shows a cost."""
    score, against, cost = board.score, find_against(board), find_cost(board)
    if score is None or against is None:
        return None
    costs = {row.name: (board.cell(row, cost).value if cost else None) or 0.0 for row in rows}
    highest = max(costs.values())
    references = [row.name for row in rows if board.reference(row) is row] or [""]
    series = {}
    for row in rows:
        cells = [board.cell(row, column) for column in (against, score)]
        x, y = (cell.value for cell in cells)
        if x is not None and y is not None:
            ratio = costs[row.name]
            bars = [cell.estimate.ci95 if cell.estimate else None for cell in cells]
            reference = board.reference(row) is row and row.name == references[0]
            colour = None if row.control or row.missing else REFERENCE if reference else REST
            width = math.sqrt(ratio / highest) if ratio else 0.0
            point = (round(x, 3), round(y, 3))
            series[row.name] = Series(label_row(board, row), [point], colour, width, (bars[0], bars[1]), reference)
    best = [board.described[column.metric].better == "higher" for column in (against, score)]
    front = find_front(list(series.values()), (best[0], best[1]))
    if not front:
        return None
    leading = {row.name for row in board.leading}
    shown = [
        dataclasses.replace(one, colour=FRONT if one in front and one.colour == REST else one.colour)
        for name, one in series.items()
        if name in leading or one in front
    ]
    names = [board.protocol.name(column.metric) for column in (against, score)]
    names[1] += f", {SHARE}" if score.attack == SHARE else ""
    bounds = [board.described[column.metric].range for column in (against, score)]
    if score.attack == SHARE:  # which may be a little above 1
        bounds[1] = (bounds[1][0], max(1.0, *(one.points[0][1] for one in series.values())))
    svg = draw_points(shown, names[0], names[1], (best[0], best[1]), (bounds[0], bounds[1]), size)
    caption = f"No row is better in both than {_join([one.name for one in front])}."
    if far := find_far(shown, (best[0], best[1])):
        apart = ", ".join(f"{one.name} ({names[0]} {one.points[0][0]:g})" for one in far)
        caption += f" Outside the picture, at the arrow{'s' * (len(far) > 1)}: {apart}."
    return Figure(svg, f"{group[:1].upper()}{group[1:]}. {caption}" if group else caption)


def _join(names: Sequence[str]) -> str:
    """Some names and how many more there are, in words that follow "than"."""
    more = len(names) - MOST
    parts = [*names[:MOST], f"{more} more"] if more > 0 else list(names)
    return " or ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


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
        name = board.protocol.name(score.metric)
        title = title_column(board, score, ball=False)
        yield Figure(draw_curves(series, f"eps ({norm})", name, marks), f"{title}, by the budget of the attack.")


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
            name, text = board.protocol.name(column.metric), board.described[column.metric].help
            yield Figure(draw_curves(series, "level, %", name), f"{title_column(board, column)}, by level: {text}.")


def _average_levels(records: Sequence[Record]) -> list[tuple[float, float]]:
    """The mean over seeds at each level whose name is a percentage."""
    levels: dict[float, list[float]] = {}
    for record in records:
        for name, value in record.levels.items():
            if value is not None and name.endswith("%") and name[:-1].replace(".", "", 1).isdigit():
                levels.setdefault(float(name[:-1]), []).append(value)
    return [(level, round(math.fsum(v) / len(v), 4)) for level, v in sorted(levels.items()) if len(v) == len(records)]


def draw_histograms(board: Board) -> dict[str, Markup]:
    """By the names of the leading rows, the score image by image, all on one scale."""
    values = {row.name: _list_values(board, row) for row in board.leading}
    every = [value for those in values.values() for value in those]
    low, high = min(every, default=0.0), max(every, default=0.0)
    return {name: draw_histogram(those, low, high) for name, those in values.items() if len(those) > 1}


def describe_pictures(board: Board, row: Row) -> str:
    """Which images a row's pictures show, and how they score: whether the network is right about them, too."""
    places, attack = board.protocol.examples, board.protocol.axes["attack"][0]
    shown = dict.fromkeys(filter(None, [find_against(board), board.measured]))
    scores = []
    for column in shown:
        estimate = board.cell(row, column).estimate
        images = [values for values in estimate.images.values() if len(values) > max(places)] if estimate else []
        found = [[value for values in images if (value := values[place]) is not None] for place in places]
        if all(found):
            numbers = ", ".join(format(math.fsum(some) / len(some), ".2f") for some in found)
            under = f" ({board.protocol.name(column.attack)})" if column.attack else ""
            scores.append(f"{board.protocol.name(column.metric)}{under} {numbers}")
    which = f"image{'s' * (len(places) > 1)} {', '.join(map(str, places))}"
    alone = f" {'These images' if len(places) > 1 else 'This image'} alone: {'; '.join(scores)}." if scores else ""
    return f"Test {which}, under {board.protocol.name(attack)}.{alone}"


def _list_values(board: Board, row: Row) -> list[float]:
    estimate = board.cell(row, board.measured).estimate if board.measured else None
    images = estimate.images.values() if estimate else ()
    return [value for values in images for value in values if value is not None]
