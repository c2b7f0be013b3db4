"""The figure of two-dimensional networks in the docs: its numbers by hand, and that its defenses train."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import bench

SPEC = importlib.util.spec_from_file_location("level_curves", Path(__file__).parents[2] / "docs" / "level_curves.py")
curves = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)  # where dataclasses look for it
SPEC.loader.exec_module(curves)


def test_gradients_and_their_distance_by_hand():
    network = curves.PlaneModel("softplus").build((2, 1, 1), 2)
    first, _, last = network.network.layers
    points = torch.tensor([[0.2, 0.7], [0.6, 0.1]])
    slopes = curves.gradients(network, points)
    for point, slope in zip(points, slopes, strict=True):
        hidden = first.weight @ ((point - 0.5) / 0.25) + first.bias
        assert_close(slope, (last.weight[0] * torch.sigmoid(3 * hidden)) @ first.weight / 0.25)
    assert curves.compare(torch.tensor([[3.0, 0.0], [0.0, 4.0]])) == pytest.approx((5.0, 0.0))


def test_its_cross_entropy_is_that_of_one_logit():
    network, data = curves.PlaneModel("relu").build((2, 1, 1), 2), curves.make_points(8)
    logits = network(data.images)
    both = torch.nn.functional.cross_entropy(logits, data.labels)
    single = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], data.labels.float())
    assert_close(both, single)


def test_its_defenses_are_the_suites():
    data = curves.make_points(32)
    network = curves.train(*curves.PANELS[-1], data, "quick:epochs=1,batch=32")
    assert network(data.images).shape == (32, 2)
    assert all(bench.component("defense", defense) for _, defense in curves.PANELS)
