"""Scores over budgets: a curve for each row, and the area below it. Uses neither torch nor plugins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from bench.axes import split_ball
from bench.boards.record import Record
from bench.boards.statistics import Estimate, area, estimate
from bench.boards.submissions.attachments import Values


@dataclass(frozen=True)
class Curve:
    """A metric of one row, over seeds, at the budgets of one norm: `points` by eps, which grows."""

    metric: str
    norm: str
    axes: dict[str, str]
    points: dict[str, Estimate]

    @property
    def better(self) -> str:
        return next(iter(self.points.values())).records[0].better

    def find_area(self, normalised: bool) -> Estimate | None:
        """The area over the budgets above zero, as boards compute it; None where there are fewer than two."""
        parts = [part for eps, part in self.points.items() if Fraction(eps) > 0]
        return area(parts, normalised) if len(parts) > 1 else None


Row = tuple[str, str, tuple[tuple[str, str], ...]]  # metric, norm, and the other axes but the seed


def group_by_budget(records: Iterable[Record]) -> dict[Row, dict[str, list[Record]]]:
    """The records of each row that has several budgets, by eps."""
    rows: dict[Row, dict[str, list[Record]]] = {}
    for record in records:
        norm, eps = split_ball(record.axes.get("ball", ""))
        axes = tuple((axis, text) for axis, text in record.axes.items() if axis not in ("ball", "seed"))
        if eps:
            rows.setdefault((record.metric, norm, axes), {}).setdefault(eps, []).append(record)
    return {row: parts for row, parts in rows.items() if len(parts) > 1}


def find_curves(records: Iterable[Record], images: Mapping[str, Sequence[float | None]]) -> list[Curve]:
    """The curves of some records with several budgets. `images` has the values of the images by key."""
    return [
        Curve(metric, norm, dict(axes), {eps: estimate(parts[eps], images) for eps in sorted(parts, key=Fraction)})
        for (metric, norm, axes), parts in group_by_budget(records).items()
    ]


def average_levels(values: Mapping[str, Values]) -> dict[str, list[float | None]]:
    """By key, each image's mean over levels, None where a level is undefined."""
    return {
        key: [None if math.isnan(mean) else mean for mean in found.values.mean(1).tolist()]
        for key, found in values.items()
    }
