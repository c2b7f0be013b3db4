"""Tries models and explainers on untrained networks, so that what they refuse is known before anything is trained."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Iterator, Mapping

import torch

from bench import noise
from bench.components import Case, Component, Defense, Explainer, Model
from bench.engine.training import seeded
from bench.errors import BadComponent

JITTER = 0.01  # std of the noise on all weights: some layers begin at zero, and then seem to be no part of the network


def find_unfit(case: Case, used: Mapping[str, Component]) -> str | None:
    """Why the network of a case cannot be built, or an explainer that is used refuses it; None where all is well.

    Nothing is tried where nothing is trained first: there the case says the same at once.
    """
    if not case.defense.trains:
        return None
    shape, classes = case.dataset.form
    own = case.defense if type(case.defense).build is not Defense.build else None
    explainers = [each for axis in ("explainer", "surrogate") if axis in used for each in _selective(used[axis])]
    problems = (_try(each, case.model, own, shape, classes) for each in (None, *explainers))
    return next(filter(None, problems), None)


def _selective(component: Component) -> Iterator[Explainer]:
    """The explainers that refuse some networks: a component, and those among its parameters."""
    if isinstance(component, Explainer) and component.selective:
        yield component
    for field in dataclasses.fields(component):
        part = getattr(component, field.name)
        for each in part if isinstance(part, tuple) else (part,):
            if isinstance(each, Component):
                yield from _selective(each)


@functools.cache
def _try(
    explainer: Explainer | None, model: Model, defense: Defense | None, shape: tuple[int, int, int], classes: int
) -> str | None:
    """Why a network, the defense's own or the model's, cannot be built, or an explainer refuses it."""
    with contextlib.suppress(Exception):  # such as weights that are not there: the run says it, and not as a refusal
        try:
            quiet = warnings.catch_warnings(action="ignore")
            with quiet, seeded(0, "trial"), noise.rows(0, "trial", [0]), torch.no_grad():
                network = defense.build(model, shape, classes) if defense else model.build(shape, classes)
                if explainer:
                    network.eval().requires_grad_(False)
                    for weight in network.parameters():
                        weight.add_(JITTER * torch.randn_like(weight))
                    explainer.attributions(network, torch.rand(1, *shape), torch.zeros(1, dtype=torch.int64))
        except BadComponent as error:
            return str(error)
    return None
