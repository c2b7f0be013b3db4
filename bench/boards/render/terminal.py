"""The scores of a run as a plain table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tabulate import tabulate

from bench.boards.record import Record
from bench.boards.render.escape import strip_controls
from bench.boards.render.wording import write_notes

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


def format_table(rows: Sequence[tuple[Mapping[str, str], Mapping[str, Record]]], metrics: Sequence[str]) -> str:
    """A table of (axes, records by metric): above it what all rows share, below it the notes."""
    first, _ = rows[0]
    varying = [axis for axis in first if axis in ALWAYS or len({axes[axis] for axes, _ in rows}) > 1]
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
