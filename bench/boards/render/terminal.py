"""The scores of a run as a plain table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from tabulate import tabulate

from bench.axes import AXES
from bench.boards.columns import AREA, NORMALISED
from bench.boards.curves import Curve
from bench.boards.record import Record
from bench.boards.render.escape import strip_controls
from bench.boards.render.wording import write_notes
from bench.boards.statistics import Estimate

ALWAYS = ("defense", "attack")  # axes that have a column even where all rows agree


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


def format_table(rows: Sequence[tuple[Mapping[str, str], Mapping[str, Record]]], metrics: Sequence[str]) -> str:
    """A table of (axes, records by metric): above it what all rows share, below it the notes."""
    first, _ = rows[0]
    varying = find_varying([axes for axes, _ in rows], ALWAYS)
    shared = ", ".join(f"{axis} {text}" for axis, text in first.items() if axis not in varying)
    body = [
        [*(strip_controls(axes[axis]) for axis in varying), *(format_score(scores.get(metric)) for metric in metrics)]
        for axes, scores in rows
    ]
    headers = [*varying, *map(strip_controls, metrics)]
    table = tabulate(body, headers=headers, tablefmt="simple", disable_numparse=True)
    unique = {record.key: record for _, scores in rows for record in scores.values()}.values()
    below = ["In brackets: 95% interval over images. -: not computed.", *write_notes(unique)]
    return "\n".join([strip_controls(shared), "", table, "", *map(strip_controls, below)])


def format_areas(curves: Sequence[Curve]) -> str:
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
    table = tabulate(body, headers=headers, tablefmt="simple", disable_numparse=True)
    note = (
        f"{AREA}: area under the scores over these budgets, by the trapezoidal rule with steps of width 1, and its 95% "
        f"interval. {NORMALISED}: divided by the number of steps."
    )
    return f"{table}\n\n{note}" if body else ""


def _format_mean(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}" + (" [{:.2f}, {:.2f}]".format(*estimate.ci95) if estimate.ci95 else "")
