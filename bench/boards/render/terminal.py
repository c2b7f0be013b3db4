"""The scores of a run as tables: plain ones, or ones that fit a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from bench.axes import AXES
from bench.boards.columns import AREA, NORMALISED
from bench.boards.curves import Curve
from bench.boards.record import Record
from bench.boards.render.escape import strip_controls
from bench.boards.render.tables import GAP, draw_table, measure_columns, wrap
from bench.boards.render.wording import write_notes
from bench.boards.statistics import Estimate

ALWAYS = ("defense", "attack")  # axes that have a column even where all rows agree
OF_ATTACK = ("surrogate", "attack", "ball")
OF_MAPS = ("explainer", "target", *OF_ATTACK)  # axes that no network depends on
INTERVALS = "In brackets: 95% interval over images. -: not computed."

Row = tuple[Mapping[str, str], Mapping[str, Record]]  # axes, and records by metric


def format_score(record: Record | None) -> str:
    """Value and interval, rounded."""
    if record is None:
        return "-"
    if record.value is None:
        return "undefined"
    text = f"{record.value:.1f} {record.unit}" if record.unit else f"{record.value:.3f}"
    if record.ci95 is not None:
        text += " [{:.2f}, {:.2f}]".format(*record.ci95)
    return text + (" *" if record.flags or record.undefined else "")


def find_varying(rows: Sequence[Mapping[str, str]], always: Sequence[str] = ()) -> list[str]:
    """The axes along which rows differ, and those that are `always` named where a row has them, in their order."""
    differing = [axis for axis in AXES if len({row.get(axis) for row in rows}) > 1]
    return [axis for axis in AXES if axis in differing or (axis in always and any(axis in row for row in rows))]


def format_table(rows: Sequence[Row], metrics: Sequence[str], width: int | None = None) -> str:
    """A table of scores: above it what all rows share, below it the notes.

    With a width, there are as many tables as it takes to fit a terminal of that many characters. What belongs to
    networks has a table of its own where they have several rows, and several attacks have a line of their worst.
    """
    records = {record.key: record for _, scores in rows for record in scores.values()}
    notes = list(map(strip_controls, write_notes(records.values())))
    if width is None:
        shared, table = _lay_out(rows, metrics)
        return "\n".join([shared, "", draw_table(*table), "", INTERVALS, *notes])
    rows = [(_leave_out_surrogate(axes), scores) for axes, scores in rows]
    networks = _list_networks(rows)
    of_networks = [metric for metric in metrics if len(networks) < len(rows) and not _reaches(rows, metric, OF_MAPS)]
    rest = [metric for metric in metrics if metric not in of_networks]
    worst = _find_worst(rows, rest)
    shared, _ = _lay_out(rows, [])
    tables = [*_split_table(networks, of_networks, width), *_split_table([*rows, *worst], rest, width)]
    if worst:
        notes.insert(0, "Worst: the least favourable of the attacks above, for each column.")
    return "\n\n".join([wrap(shared, width), *tables, wrap("\n".join([INTERVALS, *notes]), width)])


def _lay_out(rows: Sequence[Row], metrics: Sequence[str]) -> tuple[str, tuple[list[str], list[list[str]]]]:
    """What all rows share, in words, and the headers and cells of their table."""
    first, _ = rows[0]
    varying = find_varying([axes for axes, _ in rows], ALWAYS)
    shared = ", ".join(f"{axis} {text}" for axis, text in first.items() if axis not in varying)
    cells = [
        [*(strip_controls(axes.get(a, "")) for a in varying), *(format_score(scores.get(m)) for m in metrics)]
        for axes, scores in rows
    ]
    return strip_controls(shared), ([*varying, *map(strip_controls, metrics)], cells)


def _split_table(rows: Sequence[Row], metrics: Sequence[str], width: int) -> Iterator[str]:
    """Tables of the same rows, each with as many of the metrics as fit, and one at least."""
    headers, cells = _lay_out(rows, metrics)[1]
    first = len(headers) - len(metrics)
    sizes = [size + GAP for size in measure_columns(headers, cells)]
    while metrics:
        used, count = sum(sizes[:first]), 0
        while count < len(metrics) and (not count or used + sizes[first + count] <= width + GAP):
            used, count = used + sizes[first + count], count + 1
        places = [*range(first), *range(first, first + count)]
        part = [[row[place] for place in places] for row in cells]
        yield draw_table([headers[place] for place in places], part, width, range(first, first + count))
        metrics = metrics[count:]
        cells = [[*row[:first], *row[first + count :]] for row in cells]
        headers, sizes = [*headers[:first], *headers[first + count :]], [*sizes[:first], *sizes[first + count :]]


def _leave_out_surrogate(axes: Mapping[str, str]) -> dict[str, str]:
    """Axes without a surrogate that is the explainer itself."""
    return {axis: text for axis, text in axes.items() if axis != "surrogate" or text != axes.get("explainer")}


def _list_networks(rows: Sequence[Row]) -> list[Row]:
    """The rows of networks, with all that was measured in any of their rows."""
    networks: dict[tuple[tuple[str, str], ...], tuple[dict[str, str], dict[str, Record]]] = {}
    for axes, scores in rows:
        own = {axis: text for axis, text in axes.items() if axis not in OF_MAPS}
        networks.setdefault(tuple(own.items()), (own, {}))[1].update(scores)
    return list(networks.values())


def _reaches(rows: Sequence[Row], metric: str, axes: Sequence[str]) -> bool:
    """Whether a metric depends on some of the axes, by its records."""
    return any(axis in scores[metric].axes for _, scores in rows if metric in scores for axis in axes)


def _find_worst(rows: Sequence[Row], metrics: Sequence[str]) -> list[Row]:
    """For each case that several attacks are about, a row of the worst scores under them; costs are none."""
    groups: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for axes, scores in rows:
        groups.setdefault(tuple((a, t) for a, t in axes.items() if a not in ("attack", "surrogate")), []).append(
            (axes, scores)
        )
    return [
        (
            {**dict(case), "attack": f"worst of {len(members)}"},
            {metric: worst for metric in metrics if (worst := _choose_worst(members, metric))},
        )
        for case, members in groups.items()
        if len(members) > 1
    ]


def _choose_worst(rows: Sequence[Row], metric: str) -> Record | None:
    found = [scores[metric] for _, scores in rows if metric in scores]
    known = [(record.value, record) for record in found if record.value is not None and not record.unit]
    if not known or not _reaches(rows, metric, OF_ATTACK):
        return None
    choose = min if known[0][1].better == "higher" else max
    return choose(known, key=lambda pair: pair[0])[1]


def format_areas(curves: Sequence[Curve], width: int | None = None) -> str:
    """A table of the areas under curves over budgets; "" where none has two budgets above zero."""
    areas = [(curve, whole, curve.find_area(True)) for curve in curves if (whole := curve.find_area(False))]
    varying = find_varying([curve.axes for curve, *_ in areas], ALWAYS)
    body = [
        [
            *(strip_controls(curve.axes.get(axis, "")) for axis in varying),
            strip_controls(curve.metric),
            f"{curve.norm} {' '.join(eps for eps in curve.points if Fraction(eps) > 0)}",
            *("undefined" if each is None or each.value is None else _format_mean(each) for each in (whole, share)),
        ]
        for curve, whole, share in areas
    ]
    headers = [*varying, "metric", "budgets", AREA, NORMALISED]
    table = draw_table(headers, body, width)
    note = (
        f"{AREA}: area under the scores over these budgets, by the trapezoidal rule with steps of width 1, and its 95% "
        f"interval. {NORMALISED}: divided by the number of steps."
    )
    return f"{table}\n\n{wrap(note, width)}" if body else ""


def _format_mean(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}" + (" [{:.2f}, {:.2f}]".format(*estimate.ci95) if estimate.ci95 else "")
