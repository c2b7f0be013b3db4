"""Figures that a paper printed: their form in a board's file, and the choices and the metric that each belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.boards.choices import CHOICE, CHOSEN, choices_of, component, one_choice
from bench.shapes import Misfit, list_of, number, quote, table, text

AREA = "AUC"  # in place of a budget: the area under the curve over all of them


class Place(NamedTuple):
    """Where a figure stands: axes of the row, a metric, and the attack and the ball, "" where the paper has but one."""

    axes: tuple[tuple[str, str], ...]
    metric: str
    attack: str = ""
    ball: str = ""


class Figure(NamedTuple):
    """A mean, with the standard deviation over seeds where the paper has it."""

    value: float
    deviation: float | None = None

    def __str__(self) -> str:
        return f"{self.value:.3f}" + ("" if self.deviation is None else f" ± {self.deviation:.3f}")


@dataclass(frozen=True)
class PrintedFigures:
    """Figures that a paper printed, in its order, and where to find them."""

    source: str
    url: str
    figures: dict[Place, Figure]

    def find(self, row: Mapping[str, str], metric: str, attack: str = "", ball: str = "") -> Figure | None:
        """The figure of a row; None where the paper has none."""
        fits = (
            figure
            for place, figure in self.figures.items()
            if place[1:] == (metric, attack, ball) and set(place.axes) <= set(row.items())
        )
        return next(fits, None)


def _figure(value: Any) -> Figure | None:
    """A number, a mean with its deviation, or "-"."""
    parts = value if isinstance(value, list) else [value]
    if value == "-":
        return None
    try:
        return Figure(*map(number(), parts))
    except (Misfit, TypeError):
        raise Misfit(f'is {quote(value)}, must be a number, [mean, deviation] or "-"') from None


def _eps(value: Any) -> str:
    return AREA if value == AREA else one_choice(CHOICE["eps"])(value)


def printed_figures(value: Any) -> PrintedFigures:
    """The table `[paper]` of a board's file."""
    options = {**{option: one_choice(CHOICE[option]) for option in CHOSEN}, "eps": _eps}
    row = table({**options, "values": list_of(_figure)}, optional=CHOSEN)
    texts = text(10_000, empty=True, lines=True)
    parts = table({"source": texts, "url": texts, "metrics": choices_of(component), "rows": list_of(row)})(value)
    figures: dict[Place, Figure] = {}
    for count, axes in enumerate(parts["rows"]):
        values = axes.pop("values")
        if len(values) != len(parts["metrics"]):
            raise Misfit(f"is {quote(values)}, must have a number for each metric", f"rows[{count}].values")
        attack, eps, norm = axes.pop("attack", ""), axes.pop("eps", ""), axes.pop("norm", "linf")
        for metric, figure in zip(parts["metrics"], values, strict=True):
            place = Place(tuple(sorted(axes.items())), metric, attack, f"{norm}:{eps}" if eps else "")
            if figure and place in figures:
                raise Misfit(f"has a second figure of {metric} for the same row", f"rows[{count}]")
            if figure:
                figures[place] = figure
    return PrintedFigures(parts["source"], parts["url"], figures)
