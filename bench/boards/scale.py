"""Smaller protocols of a board, `[scale.NAME]`: what takes the place of its choices, so that it runs in minutes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.axes import OPTIONS
from bench.boards.choices import CHOICE, component, one_choice
from bench.boards.printed import Figure, Place
from bench.errors import UnknownName, suggestion
from bench.shapes import table

if TYPE_CHECKING:
    from bench.boards.protocol import Protocol, Score


@dataclass(frozen=True)
class Scale:
    """By option, the choice that takes the place of every other one, or by choice the one that takes its place."""

    changes: dict[str, str | dict[str, str]]

    def change(self, option: str, choice: str) -> str:
        found = self.changes.get(option, choice)
        return found if isinstance(found, str) else found.get(choice, choice)

    def change_all(self, axes: Mapping[str, list[str]]) -> dict[str, list[str]]:
        return {
            option: list(dict.fromkeys(self.change(option, choice) for choice in choices))
            for option, choices in axes.items()
        }


def scale_shape(value: Any) -> Scale:
    """The table `[scale.NAME]` of a board's file."""
    options = {option: CHOICE.get(option, component) for option in OPTIONS}

    def change(option: str) -> Any:
        one = one_choice(options[option])
        return lambda value: table({}, others=one)(value) if isinstance(value, dict) else one(value)

    return Scale(table({option: change(option) for option in options}, optional=[*options])(value))


def scale_protocol(protocol: Protocol, name: str) -> Protocol:
    """A protocol at one of its scales. Figures of the paper belong to what takes the place of their choices, so that
    each still has a cell. Where the data set is another one, its fingerprint is not asked for. Raises UnknownName where
    the protocol has no such scale."""
    if name not in protocol.scales:
        way_out = suggestion(name, protocol.scales) if protocol.scales else "; the board has none"
        raise UnknownName(f"no scale called {name!r}{way_out}")
    scale = protocol.scales[name]
    paper = protocol.paper
    if paper:
        figures: dict[Place, Figure] = {}
        for place, figure in paper.figures.items():
            figures.setdefault(_change_place(scale, place), figure)
        paper = dataclasses.replace(paper, figures=figures)
    return dataclasses.replace(
        protocol,
        metrics=list(dict.fromkeys(scale.change("metric", metric) for metric in protocol.metrics)),
        axes=scale.change_all(protocol.axes),
        rows=[scale.change_all(row) for row in protocol.rows],
        controls=scale.change_all(protocol.controls),
        reference={option: scale.change(option, choice) for option, choice in protocol.reference.items()},
        score=_change_score(scale, protocol.score) if protocol.score else None,
        paper=paper,
        data=[] if "dataset" in scale.changes else protocol.data,
        tolerance={},
        examples=[],
    )


def _change_place(scale: Scale, place: Place) -> Place:
    axes = tuple(sorted((option, scale.change(option, choice)) for option, choice in place.axes))
    norm, _, eps = place.ball.partition(":")
    ball = f"{norm}:{scale.change('eps', eps)}" if eps in scale.changes.get("eps", ()) else place.ball
    attack = scale.change("attack", place.attack) if place.attack else ""
    return Place(axes, scale.change("metric", place.metric), attack, ball)


def _change_score(scale: Scale, score: Score) -> Score:
    names = ("metric", "ties", "chance", "against", "cost")
    metrics = {key: scale.change("metric", getattr(score, key)) for key in names}
    attacks = {key: scale.change("attack", getattr(score, key)) for key in ("attack", "ceiling", "noise")}
    changed: dict[str, Any] = {key: text for key, text in {**metrics, **attacks}.items() if getattr(score, key)}
    return dataclasses.replace(score, **changed, needs=tuple(scale.change("metric", each) for each in score.needs))
