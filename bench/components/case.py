"""A case: one value along every axis."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from bench.axes import AXES, TARGET, TARGETS
from bench.components.ball import Ball
from bench.components.base import Component
from bench.components.dataset import Dataset
from bench.components.kinds import Attack, Defense, Explainer, Model, Schedule
from bench.errors import BadValue

Split = Literal["test", "validation", "train"]


@dataclass(frozen=True)
class Case:
    """One cell of the benchmark without its metric. Its fields are the axes (`bench.axes`), with their types."""

    dataset: Dataset
    split: Split
    model: Model
    schedule: Schedule
    defense: Defense
    seed: int
    explainer: Explainer
    surrogate: Explainer
    attack: Attack
    ball: Ball
    target: str
    samples: int

    def __post_init__(self) -> None:
        splits = get_args(Split)
        if self.split not in splits:
            raise BadValue(f"split {self.split!r}: choose {' or '.join(splits)}")
        if not TARGET.fullmatch(self.target):
            raise BadValue(f"target {self.target!r}: choose {TARGETS}")
        if self.samples < 1:
            raise BadValue(f"samples {self.samples}: at least one image is needed")
        if self.seed < 0:
            raise BadValue(f"seed {self.seed}: must be 0 or more")

    @property
    def axes(self) -> dict[str, Any]:
        return {axis: getattr(self, axis) for axis in AXES}

    @property
    def components(self) -> dict[str, Component]:
        return {axis: value for axis, value in self.axes.items() if isinstance(value, Component)}


assert tuple(field.name for field in dataclasses.fields(Case)) == AXES


def cases(choices: Mapping[str, Sequence[Any]], fallback: Explainer) -> Iterator[Case]:
    """Every combination of the choices, each once, in the order of the axes.

    A model that is named after trained weights frames the images of data sets that do not say how. Without chosen
    surrogates, the attack differentiates the explainer itself, or `fallback` where that has no gradient.
    """
    rest = [axis for axis in AXES if axis != "surrogate"]
    frames = {model: model.frame for model in choices["model"]}
    seen = set()
    for values in itertools.product(*(choices[axis] for axis in rest)):
        axes = dict(zip(rest, values, strict=True))
        frame = frames[axes["model"]]
        if frame is not None:
            axes["dataset"] = axes["dataset"].framed(frame)
        explainer = axes["explainer"]
        own = explainer if explainer.differentiable else fallback
        for surrogate in choices.get("surrogate") or [own]:
            case = Case(**axes, surrogate=surrogate)
            if case not in seen:
                seen.add(case)
                yield case
