"""Sensitivity, rank thickness, complexity, earth mover's distance and maps as detectors, beside scipy, scikit-learn and
slow forms; in float64."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from sklearn.metrics import roc_auc_score
from torch.testing import assert_close

import bench
from bench import noise
from bench.testing import tiny_images, tiny_network

IMAGES, TARGETS = tiny_images(3)
ROWS = SimpleNamespace(rows=torch.tensor([4, 7, 9]))


def score(text, **evidence):
    return bench.component("metric", text)(**evidence)


def maps(count, height, width, seed=0):
    found = torch.rand(count, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return found / found.sum((1, 2), keepdim=True)


def sensitivities(text, explainer, **more):
    given = {"images": IMAGES, "targets": TARGETS, "seed": 3, "test_data": ROWS, "network": tiny_network(True), **more}

    def explain(network, images, targets, raw=False):
        assert raw
        return explainer(network, images, targets)

    with torch.no_grad():
        clean = given.pop("clean_attributions", None)
        clean = explainer(given["network"], IMAGES, TARGETS) if clean is None else clean
        return score(text, explain=explain, clean_attributions=clean, **given)


def test_sensitivities_beside_a_slow_form():
    network, gradient = tiny_network(True), bench.component("explainer", "gradient").attributions
    with noise.rows(3, "sensitivity", ROWS.rows):
        near = [(IMAGES + 8 / 255 * noise.uniform(IMAGES)).clamp(0, 1) for _ in range(3)]
    found = {kind: sensitivities(f"{kind}_sensitivity:draws=3", gradient) for kind in ("max", "average")}
    for i in range(3):
        here, *there = (
            gradient(network, images[i : i + 1], TARGETS[i : i + 1]).detach().flatten().tolist()
            for images in (IMAGES, *near)
        )
        moves = [math.dist(here, one) / math.hypot(*here) for one in there]
        assert_close(float(found["max"][i]), max(moves))
        assert_close(float(found["average"][i]), sum(moves) / 3)


def test_sensitivity_of_a_linear_network_by_hand():
    """Of x * 5: |5 r| / |5 x|, whatever the factor; no step moves nothing."""
    with noise.rows(3, "sensitivity", ROWS.rows):
        near = (IMAGES + 4 / 255 * noise.uniform(IMAGES)).clamp(0, 1)
    expected = (near - IMAGES).flatten(1).norm(dim=1) / IMAGES.flatten(1).norm(dim=1)
    for kind in ("max", "average"):
        times = lambda network, images, targets: 5 * images  # noqa: E731
        assert_close(sensitivities(f"{kind}_sensitivity:eps=4/255,draws=1", times), expected)
        assert not sensitivities(f"{kind}_sensitivity:eps=0,draws=2", times).any()
        zero = torch.cat([0 * IMAGES[:1], IMAGES[1:]])
        found = sensitivities(f"{kind}_sensitivity:draws=2", times, clean_attributions=zero)
        assert found.isnan().tolist() == [True, False, False]


def thickness(gradient_map, image, moved, k, points):
    """The mean over pairs of a top pixel and another, draws and points on the way of 1[map_i > map_j], ties half."""
    clean, total = gradient_map(image), 0.0
    order = sorted(range(144), key=lambda p: -clean[p])
    for near in moved:
        for point in range(points):
            here = gradient_map(image + (point + 0.5) / points * (near - image))
            for i in order[:k]:
                for j in order[k:]:
                    total += (here[i] > here[j]) + 0.5 * (here[i] == here[j])
    return total / (len(moved) * points * k * (144 - k))


def test_rank_thickness_beside_a_slow_form():
    network, explainer = tiny_network(True), bench.component("explainer", "gradient")
    given = {"network": network, "images": IMAGES, "targets": TARGETS, "seed": 3, "test_data": ROWS}
    clean = explainer.maps(network, IMAGES, TARGETS).detach()
    with torch.no_grad():
        found = score("rank_thickness:eps=1/4,draws=2,points=3,k=7", explain=explainer.maps, clean_maps=clean, **given)
    with noise.rows(3, "rank_thickness", ROWS.rows):
        moved = [(IMAGES + 0.25 * noise.uniform(IMAGES)).clamp(0, 1) for _ in range(2)]
    for i in range(3):

        def gradient_map(image, i=i):
            return explainer.maps(network, image[None], TARGETS[i : i + 1])[0].detach().flatten().tolist()

        expected = thickness(gradient_map, IMAGES[i], [near[i] for near in moved], 7, 3)
        assert 0.5 < expected < 1
        assert_close(float(found[i]), expected)


def test_rank_thickness_by_hand_and_undefined_maps():
    clean = maps(4, 12, 12)
    clean[3] = 0
    later = torch.stack([clean[0], torch.full((12, 12), 1 / 144).double(), clean[2], clean[0]])
    later[2, 0, 0] = torch.nan
    rows = [0, 1, 2, 0]
    given = {"images": IMAGES[rows], "targets": TARGETS[rows], "seed": 0}
    given["test_data"] = SimpleNamespace(rows=torch.arange(4))
    given |= {"network": None, "explain": lambda network, images, targets: later, "clean_maps": clean}
    found = score("rank_thickness:draws=1,points=1", **given)
    assert_close(found, torch.tensor([1, 0.5, math.nan, math.nan], dtype=torch.float64), equal_nan=True)
    with pytest.raises(bench.BadValue, match="k=145: k is 145, but the maps have 144 pixels; lower k"):
        score("rank_thickness:k=145", **given)


def test_complexity_is_the_entropy():
    given = maps(3, 5, 4)
    found = score("complexity", clean_maps=given)
    assert_close(found.numpy(), scipy.stats.entropy(given.flatten(1).numpy(), axis=1))
    single, constant = torch.zeros(5, 4, dtype=torch.float64), torch.full((5, 4), 1 / 20, dtype=torch.float64)
    single[1, 2] = 1
    found = score("complexity", clean_maps=torch.stack([single, constant, 0 * single]))
    assert_close(found, torch.tensor([0, math.log(20), math.nan], dtype=torch.float64), equal_nan=True)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (4, 4), (9, 5)], ids=str)
@pytest.mark.parametrize("directions", [2, 5])
def test_emd_is_scipys_in_each_direction(size, directions):
    first, second = maps(3, *size), maps(3, *size, seed=1)
    second[2] *= torch.rand(size, generator=torch.Generator().manual_seed(2)) > 0.5  # some pixels without mass
    second[2, 0, 0] += 0.1
    found = score(f"emd:directions={directions}", clean_maps=first, attacked_maps=second)
    rows, columns = np.indices(size)
    for i in range(3):
        total = 0.0
        for k in range(directions):
            place = math.cos(math.pi * k / directions) * rows + math.sin(math.pi * k / directions) * columns
            masses = (one[i].numpy().ravel() for one in (first, second))
            total += scipy.stats.wasserstein_distance(place.ravel(), place.ravel(), *masses)
        assert_close(float(found[i]), total / directions, rtol=1e-9, atol=1e-9)


def exact_emd(a, b):
    """The transport problem as a linear program: the least sum of mass times distance."""
    places = np.argwhere(np.ones(a.shape))
    costs = np.linalg.norm(places[:, None] - places[None], axis=2)
    count = a.size
    leave, arrive = np.kron(np.eye(count), np.ones(count)), np.kron(np.ones(count), np.eye(count))
    equal = {"A_eq": np.vstack([leave, arrive]), "b_eq": np.concatenate([a.ravel(), b.ravel()])}
    return scipy.optimize.linprog(costs.ravel(), **equal).fun


def test_emd_lies_between_the_distance_in_the_plane_and_a_part_of_the_shift():
    first, second = maps(3, 4, 4), maps(3, 4, 4, seed=1)
    given = {"clean_maps": first, "attacked_maps": second}
    found, shifts = score("emd:directions=64", **given), score("center_shift", **given)
    for i in range(3):
        assert 2 / math.pi * shifts[i] * 0.99 < found[i] < exact_emd(first[i].numpy(), second[i].numpy())


def test_emd_of_a_shifted_map_by_hand():
    first, zero = torch.zeros(2, 12, 12, dtype=torch.float64), torch.zeros(1, 12, 12, dtype=torch.float64)
    first[0, 2:4, 3], first[1, 0, 0] = 0.5, 1
    moved = first.roll((3, 4), (1, 2))  # by five pixels
    found = score("emd:directions=200", clean_maps=first, attacked_maps=moved)
    assert_close(found, torch.full((2,), 10 / math.pi, dtype=torch.float64), rtol=1e-4, atol=0)
    assert score("emd", clean_maps=first, attacked_maps=first).tolist() == [0, 0]
    assert score("emd", clean_maps=first[:1], attacked_maps=zero).isnan().all()


def test_mask_auc_is_scikit_learns():
    given = maps(4, 6, 5)
    given[1] = (given[1] * 100).round()  # many ties
    masks = torch.rand(4, 6, 5, generator=torch.Generator().manual_seed(1)).round()
    masks[2, :2] = 0.5
    found = score("mask_auc", clean_maps=given, object_masks=masks)
    for i in range(4):
        counts = masks[i] != 0.5
        assert_close(float(found[i]), roc_auc_score(masks[i][counts], given[i][counts]))
    given[0], given[1] = 0, 1 / 30
    masks[2], masks[3] = 0, 1
    found = score("mask_auc", clean_maps=given, object_masks=masks)
    assert_close(found, torch.tensor([math.nan, 0.5, math.nan, math.nan], dtype=torch.float64), equal_nan=True)
