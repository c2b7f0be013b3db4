"""The columns of a board: a metric with an attack and a budget, the worst case over attacks, the area over budgets, and
their order. Uses neither torch nor plugins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from bench.boards.printed import AREA
from bench.boards.protocol import Protocol

NORMALISED, WORST, SHARE = "AUC normalised", "worst case", "share of ceiling"


@dataclass(frozen=True)
class Column:
    """A metric, with the attack and the budget that it depends on. In place of the attack there may be the worst of all
    for each image, or the share of the ceiling; in place of the budget the area over all."""

    metric: str
    attack: str
    ball: str

    @property
    def derived(self) -> bool:
        """Whether its estimates come from those of other columns."""
        return self.attack in (WORST, SHARE) or self.over

    @property
    def over(self) -> bool:
        return self.ball.endswith((AREA, NORMALISED))


def find_worst(columns: Iterable[Column]) -> dict[Column, list[Column]]:
    """The columns of the worst case, with the columns of the attacks that it is over."""
    parts: dict[tuple[str, str], list[Column]] = {}
    for column in columns:
        if column.attack and Fraction(column.ball.partition(":")[2]) > 0:
            parts.setdefault((column.metric, column.ball), []).append(column)
    return {Column(metric, WORST, ball): those for (metric, ball), those in parts.items() if len(those) > 1}


def find_areas(columns: Iterable[Column]) -> dict[Column, list[Column]]:
    """The columns of the area under a curve over budgets, with the columns that it is over, by growing eps."""
    curves: dict[tuple[str, str, str], list[Column]] = {}
    for column in columns:
        norm, _, eps = column.ball.partition(":")
        if eps and Fraction(eps) > 0:
            curves.setdefault((column.metric, column.attack, norm), []).append(column)
    return {
        Column(metric, attack, f"{norm}:{name}"): sorted(parts, key=lambda c: Fraction(c.ball.partition(":")[2]))
        for (metric, attack, norm), parts in curves.items()
        if len(parts) > 1
        for name in (AREA, NORMALISED)
    }


def place_column(protocol: Protocol, column: Column) -> tuple[Any, ...]:
    """Where a column stands in the order of the protocol; what it does not name comes last."""
    norm, _, eps = column.ball.partition(":")
    return (
        place_choice(protocol.metrics, column.metric),
        (-1, column.attack)
        if column.attack in (WORST, SHARE)
        else place_choice(protocol.axes["attack"], column.attack),
        place_choice(protocol.axes["norm"], norm),
        place_choice(protocol.axes["eps"], eps),
    )


def place_choice(choices: Sequence[Any], text: str) -> tuple[int, str]:
    """The place of a text among choices; what is none of them comes last."""
    texts = [str(choice) for choice in choices]
    return (texts.index(text) if text in texts else len(texts), text)
