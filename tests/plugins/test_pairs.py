"""Every attack on every explainer, those that learn included."""

from __future__ import annotations

import contextlib
import dataclasses
from fractions import Fraction

import pytest
import torch
from torch.testing import assert_close

import bench
from bench import noise
from bench.engine.catalog import load
from bench.gradients import softened
from bench.testing.fixtures import (
    tiny_bcos_network,
    tiny_data,
    tiny_fit,
    tiny_images,
    tiny_network,
    tiny_transformer,
    tiny_victim,
)

CATALOG = load()
# The first example of each, which is small.
TEXTS = {
    kind: [f"{name}:{cls.examples[0]}".rstrip(":") for name, cls in CATALOG.of(kind).items()]
    for kind in ("attack", "explainer")
}
# One that is differentiated once, one with rules of its own, one that has no gradient and one that learns. The others
# take minutes.
QUICK = ("gradient", "lrp", "occlusion", "expected_gradients")
EXPLAINERS = [
    pytest.param(text, marks=() if text.partition(":")[0] in QUICK else pytest.mark.slow) for text in TEXTS["explainer"]
]
ATTACKS = [*TEXTS["attack"], "random_search:queries=2,like=(topk_l2)", "uniform_noise:candidates=2,like=(mass_center)"]
BALLS = {"images": bench.Ball("linf", Fraction(8, 255)), "parameters": bench.Ball("rotation", Fraction(30))}
IMAGES, TARGETS = tiny_images(2)
NETWORK = tiny_network(smooth=True)
# By what explainers need: a network, and another one to attack from.
SPECIAL = {
    "class_token": [tiny_transformer(smooth=True, seed=seed) for seed in (24, 25)],
    "bcos_layers": [tiny_bcos_network(smooth=True, seed=seed) for seed in (24, 25)],
}


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """What each explainer has learned about the network, by text; training data are of single precision."""
    network = tiny_network(smooth=True, dtype=torch.float32)
    explainers = {text: bench.component("explainer", text) for text in TEXTS["explainer"]}
    return {
        text: explainer.prepare(network, tiny_data(), tiny_fit(str(tmp_path_factory.mktemp("fit"))))
        for text, explainer in explainers.items()
        if explainer.prepares
    }


def test_some_explainers_learn(learned):
    assert {"expected_gradients", "rtsal"} <= {text.partition(":")[0] for text in learned}


@pytest.mark.parametrize("explainer", EXPLAINERS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_the_attack_stays_in_the_ball_and_its_objective_is_finite(attack, explainer, learned, tiny_case):
    method, explaining = bench.component("attack", attack), bench.component("explainer", explainer)
    if method.refuse(dataclasses.replace(tiny_case, attack=method, explainer=explaining, surrogate=explaining)):
        # Refused are the attacks that would follow a gradient of maps that have none, and no others.
        followed = method.like if method.name == "universal" else getattr(method, "attack", method)
        assert not explaining.differentiable and followed.beta is not None
        return
    victim = dataclasses.replace(tiny_victim(NETWORK), explainer=explaining, prepared=learned.get(explainer))
    if explaining.needs:
        network, other = SPECIAL[explaining.needs]
        victim = dataclasses.replace(victim, network=network, trained_by=lambda defense: other)
    ball = BALLS[method.spaces[0]]
    with noise.rows(1, "attack", range(len(IMAGES))):
        moved = method.perturb(victim, IMAGES, TARGETS, ball)
        objective = method.make_objective(victim, IMAGES, TARGETS)
    assert moved.shape == ball.center(IMAGES).shape and moved.isfinite().all()
    assert_close(ball.project(moved, IMAGES), moved, rtol=0, atol=1e-12)
    if objective is None:
        return
    with torch.no_grad(), contextlib.nullcontext() if method.beta is None else softened(method.beta):
        score = objective(moved)
    assert score.shape == (len(IMAGES),) and score.isfinite().all()
