"""What stands where a row and a column of a board meet, decided once for every kind of output."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass

from bench.boards.statistics import Difference, Estimate, difference

COSTS = ("s", "MiB", "passes")  # units shown as a ratio to the reference row


@dataclass(frozen=True)
class Cell:
    """`text` is the value as printed; `value` is the number to sort and to draw by: the mean, or the ratio of a cost.

    `interval` has the 95% interval, `seeds` says over how many of the board's seeds the mean is, if not over all, and
    `mark` points to the notes. `difference` is that to the reference row; `estimate` has all numbers behind the cell.
    """

    text: str = "-"
    value: float | None = None
    interval: str = ""
    seeds: str = ""
    mark: str = ""
    difference: Difference | None = None
    estimate: Estimate | None = None

    def format(self, escape: Callable[[str], str]) -> str:
        """The cell in one line, its words escaped."""
        seeds = f"({self.seeds})" if self.seeds else ""
        return " ".join(part for part in (escape(self.text), self.interval, seeds, escape(self.mark)) if part)


def make_cell(mine: Estimate | None, base: Estimate | None, seeds: Set[str]) -> Cell:
    """The cell of an estimate. `base` is the estimate of the reference row, `seeds` are all seeds of the board."""
    if mine is None:
        return Cell()
    if is_cost(mine):
        ratio = cost_ratio(mine, base)
        text = "undefined" if mine.value is None else "-" if ratio is None else f"{ratio:.2f} x"
        return Cell(text, ratio, estimate=mine)
    there = difference(mine, base) if base and base is not mine else None
    if mine.value is None:
        return Cell("undefined", difference=there, estimate=mine)
    own = {record.axes["seed"] for record in mine.records if "seed" in record.axes}
    return Cell(
        format_value(mine),
        mine.value,
        interval="[{:.2f}, {:.2f}]".format(*mine.ci95) if mine.ci95 else "",
        seeds=f"{len(own)} of {len(seeds)} seeds" if own and own != seeds else "",
        mark=_mark(mine),
        difference=there,
        estimate=mine,
    )


def _mark(estimate: Estimate) -> str:
    marks = ["*" if estimate.starred else "", f"{estimate.lost} lost" if estimate.lost else ""]
    return " ".join(mark for mark in (*marks, f"under {estimate.under}" if estimate.under else "") if mark)


def is_cost(estimate: Estimate) -> bool:
    return estimate.records[0].unit in COSTS


def cost_ratio(mine: Estimate, base: Estimate | None) -> float | None:
    """A cost over that of the reference row; None where one is missing, or not all was measured on one device.

    Passes are the same on every device.
    """
    if mine.value is None or base is None or not base.value:
        return None
    if mine.records[0].unit == "passes":
        return mine.value / base.value
    # One device for all: where two rows have the same two devices, each seed may have been on the other one.
    devices = {str(record.provenance.get("device", "")) for record in (*mine.records, *base.records)}
    return mine.value / base.value if len(devices) == 1 and devices != {""} else None


def format_value(estimate: Estimate) -> str:
    """A value with its unit."""
    unit = estimate.records[0].unit
    return f"{estimate.value:.3f}" + (f" {unit}" if unit else "")
