"""Flags on white-box attacks that blind ones beat."""

from __future__ import annotations

import dataclasses
import random

import pytest
from test_board import BLANK

from bench.boards.doubts import flag_beaten

AXES = {"defense": "ce", "explainer": "gradient", "surrogate": "gradient", "ball": "linf:8/255", "seed": "0"}
WHITE = dataclasses.replace(
    BLANK, key="white", axes={**AXES, "attack": "topk"}, objective={"before": 1.0, "after": 0.5, "success": 1.0}
)
NOISE = dataclasses.replace(BLANK, key="noise", axes={**AXES, "attack": "uniform_noise"})


def images(mean, kept=True, count=40):
    draw = random.Random(0)
    return [(mean + draw.uniform(-0.1, 0.1), kept) for _ in range(count)]


def flags(records, values):
    return {record.key: record.flags for record in flag_beaten(records, values)}


def test_noise_that_moves_maps_further_is_told():
    found = flags([WHITE, NOISE], {"white": images(0.6), "noise": images(0.5)})
    assert found == {"white": ("unreliable: moved further by uniform_noise",), "noise": ()}


def test_a_transfer_is_a_blind_attack_too():
    transfer = dataclasses.replace(WHITE, key="transfer", axes={**WHITE.axes, "surrogate": "smoothgrad"})
    found = flags([WHITE, transfer], {"white": images(0.6), "transfer": images(0.5)})
    assert found == {"white": ("unreliable: moved further by topk",), "transfer": ()}


@pytest.mark.parametrize(
    ("other", "values"),
    [
        (NOISE, images(0.7)),  # noise moves less
        (NOISE, [(v + 0.001 * (-1) ** i, k) for i, (v, k) in enumerate(images(0.6))]),  # no more than chance
        (NOISE, images(0.5, kept=False)),  # where predictions flip
        (NOISE, images(0.5, count=39)),  # on other images
        (dataclasses.replace(NOISE, axes={**NOISE.axes, "ball": "linf:16/255"}), images(0.5)),
        (dataclasses.replace(NOISE, axes={**NOISE.axes, "seed": "1"}), images(0.5)),
        (dataclasses.replace(NOISE, metric="other"), images(0.5)),
    ],
)
def test_what_says_nothing_of_an_attack(other, values):
    assert flags([WHITE, other], {"white": images(0.6), "noise": values})["white"] == ()


def test_where_lower_is_better_more_is_further():
    white, noise = (dataclasses.replace(record, better="lower") for record in (WHITE, NOISE))
    assert flags([white, noise], {"white": images(0.6), "noise": images(0.5)})["white"] == ()
    assert flags([white, noise], {"white": images(0.5), "noise": images(0.6)})["white"] != ()


def test_scores_that_know_no_explainer_are_left_alone():
    axes = {axis: text for axis, text in WHITE.axes.items() if axis != "explainer"}
    white, noise = (dataclasses.replace(r, axes={**axes, "attack": r.axes["attack"]}) for r in (WHITE, NOISE))
    assert flags([white, noise], {"white": images(0.6), "noise": images(0.5)})["white"] == ()
