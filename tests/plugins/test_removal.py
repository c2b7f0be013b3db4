"""Removal of pixels and of squares beside dense systems and slow loops; in float64."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bench_metrics import road
from torch import nn
from torch.testing import assert_close

import bench
from bench import noise
from bench.testing import tiny_data, tiny_images, tiny_network

IMAGES, TARGETS = tiny_images(3)
ROWS = SimpleNamespace(rows=torch.tensor([4, 7, 9]))
GIVEN = {"images": IMAGES, "targets": TARGETS, "seed": 3, "test_data": ROWS}


def maps():
    found = torch.rand(3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found[1] = (found[1] * 3).round()  # many ties
    return found / found.sum((1, 2), keepdim=True)


def score(text, network, **more):
    with torch.no_grad():
        return bench.component("metric", text)(network=network, **GIVEN, **more)


def impute(image, gone):
    """One image: the mean of the neighbours in and out of the hole, as a dense system of all pixels."""
    channels, height, width = image.shape
    system, known = np.eye(height * width), image.reshape(channels, -1).numpy().copy()
    for row, column in itertools.product(range(height), range(width)):
        here = row * width + column
        if gone.flatten()[here]:
            known[:, here] = 0
            near = {}
            for down, right in itertools.product((-1, 0, 1), repeat=2):
                if (down or right) and 0 <= row + down < height and 0 <= column + right < width:
                    near[(row + down) * width + column + right] = 1 / 12 if down and right else 1 / 6
            for there, weight in near.items():
                system[here, there] = -weight / sum(near.values())
    return torch.from_numpy(np.linalg.solve(system, known.T).T.reshape(image.shape).copy())


@pytest.mark.parametrize("order", ["most", "least"])
def test_road_beside_a_slow_form(order):
    network, given = tiny_network(True), maps()
    found = score(f"road:steps=4,order={order},noise=0.1", network, clean_maps=given)
    assert found.names == ("25%", "50%", "75%")
    assert bench.component("metric", f"road:order={order}").better == {"most": "lower", "least": "higher"}[order]
    with noise.rows(3, "road", ROWS.rows):
        draws = [noise.normal(IMAGES) for _ in range(3)]
    for i in range(3):
        ranked = sorted(range(144), key=lambda p, i=i: -float(given[i].flatten()[p]))
        ranked = ranked if order == "most" else ranked[::-1]
        for level in range(3):
            gone = torch.zeros(144, dtype=torch.bool)
            gone[ranked[: 36 * (level + 1)]] = True
            gone = gone.view(12, 12)
            filled = impute(IMAGES[i], gone) + 0.1 * draws[level][i] * gone
            with torch.no_grad():
                assert found.values[i, level] == float(network(filled[None]).argmax() == TARGETS[i])


def test_imputation_beside_a_dense_system():
    gone = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0)) < 0.6
    found = road.impute(IMAGES, gone)
    for i in range(3):
        assert_close(found[i], impute(IMAGES[i], gone[i]))


def test_a_hole_in_a_slope_is_filled_without_a_trace():
    slope = (torch.arange(5.0)[:, None] + 2 * torch.arange(7.0)).double().expand(1, 1, 5, 7)
    gone = torch.zeros(1, 5, 7, dtype=torch.bool)
    gone[0, 1:4, 2:6] = True
    assert_close(road.impute(slope, gone), slope)
    assert torch.equal(road.impute(slope, torch.zeros_like(gone)), slope)


class Reader(nn.Module):
    """Predicts class 1 where the pixel at the corner is bright."""

    def forward(self, images):
        bright = images[:, :, 0, 0].mean(1)
        return torch.stack([0.5 - bright, bright - 0.5], 1)


def test_road_by_hand_and_undefined_for_a_zero_map():
    images = torch.zeros(3, 3, 4, 4, dtype=torch.float64)
    images[:, :, 0, 0] = 1
    order = torch.zeros(3, 4, 4, dtype=torch.float64)
    order[0, 0, 0] = 1
    order[1] = 1 / 15
    order[1, 0, 0] = 0
    given = {"network": Reader(), "images": images, "targets": torch.ones(3, dtype=torch.int64), "clean_maps": order}
    with torch.no_grad():
        found = bench.component("metric", "road:steps=2")(
            **given, seed=0, test_data=SimpleNamespace(rows=torch.arange(3))
        )
    assert_close(found.values[:, 0], torch.tensor([0, 1, torch.nan], dtype=torch.float64), equal_nan=True)


@pytest.mark.parametrize("side, fill", [(3, "mean"), (8, "black")])
def test_irof_beside_a_slow_loop(side, fill):
    """On images that squares do not fill: the means of those at the border are over fewer pixels."""
    network, order, images = (
        nn.Sequential(nn.ZeroPad2d((0, 3, 0, 0)), tiny_network(True)),
        maps()[..., :9],
        IMAGES[..., :9],
    )
    order[1] = order[0].flip(0)  # without ties, which are broken by the last digit of a mean
    order[2, :8, 8] += 1 / 100
    with torch.no_grad():
        found = bench.component("metric", f"irof:side={side},fill={fill}")(
            network=network, clean_maps=order, **{**GIVEN, "images": images}
        )
    region = -(-12 // side)
    corners = list(itertools.product(range(0, 12, region), range(0, 9, region)))
    assert found.names[-1] == str(len(corners))
    empty = network[1].mean if fill == "mean" else torch.zeros(3, 1, 1).double()
    for i in range(3):
        squares = [(slice(top, top + region), slice(left, left + region)) for top, left in corners]
        squares.sort(key=lambda square, i=i: -float(order[i][square].mean()))
        image, scores = images[i].clone(), []
        for square in [None, *squares]:
            if square:
                image[:, square[0], square[1]] = empty
            with torch.no_grad():
                scores.append(float(network(image[None]).softmax(1)[0, TARGETS[i]]))
        assert_close(found.values[i].tolist(), [1 - one / scores[0] for one in scores])
    assert_close(found.values[:, 0], torch.zeros(3).double())


def test_irof_is_undefined_for_a_zero_map_or_without_a_probability():
    class Sure(nn.Module):
        def forward(self, images):
            return torch.tensor([[0.0, -2000, -2000]]).double().expand(len(images), 3)

    order = maps()
    order[2] = 0
    given = {**GIVEN, "targets": torch.tensor([0, 1, 0])}
    with torch.no_grad():
        found = bench.component("metric", "irof:side=2,fill=black")(network=Sure(), clean_maps=order, **given).values
    assert_close(found[:, -1], torch.tensor([0, torch.nan, torch.nan]).double(), equal_nan=True)


@pytest.mark.parametrize("order", ["most", "least"])
def test_f_fidelity_beside_a_slow_loop(order):
    network, given = tiny_network(True), maps()
    given[2] = 0
    seen = []

    def refit(data, name, using):
        seen.append((data.images[torch.arange(24)], name, using))
        return network

    found = score(
        f"f_fidelity:steps=4,alpha=0.5,beta=0.2,draws=6,order={order}",
        network,
        clean_maps=given,
        refit=refit,
        train_data=tiny_data(),
    )
    ((images, name, using),) = seen
    holes = (images == 0.5).all(1).float().mean()  # of the mean colour
    assert 0.1 < holes < 0.3 and (name, using) == ("holes/0.2", ("network",))
    assert found.names == ("25%", "50%", "75%")
    for i, row in enumerate(ROWS.rows.tolist()[:2]):
        ranked = sorted(range(144), key=lambda p: -given[i].flatten()[p])
        ranked = ranked if order == "most" else ranked[::-1]
        whole = float(network(IMAGES[i][None]).argmax() == TARGETS[i])
        with noise.rows(3, "f_fidelity", [row]):
            for level, count in enumerate((36, 72, 108)):
                chance, kept = min(0.5, 0.2 * 144 / count), 0
                for _ in range(6):
                    drawn = noise.uniform(torch.empty(1, 12, 12, dtype=torch.float64), 0, 1).flatten()
                    image = IMAGES[i].clone()
                    for pixel in ranked[:count]:
                        if drawn[pixel] < chance:
                            image[:, pixel // 12, pixel % 12] = 0.5
                    kept += float(network(image[None]).argmax() == TARGETS[i])
                assert_close(float(found.values[i, level]), whole - kept / 6)
    assert found.values[2].isnan().all()


def test_f_fidelity_is_one_for_pixels_that_decide_and_none_for_the_others():
    class Corner(nn.Module):
        def forward(self, images):
            lit = images[:, :, :6, :6].flatten(1).amin(1) > 0.6
            return torch.stack([lit, ~lit], 1).to(images)

    images = torch.full((3, 3, 12, 12), 0.8, dtype=torch.float64)
    given = torch.zeros(3, 12, 12, dtype=torch.float64)
    given[:, :6, :6] = 1 / 36
    more = {"clean_maps": given, "refit": lambda *data, using: Corner(), "train_data": tiny_data()}
    rows = {**GIVEN, "images": images, "targets": torch.zeros(3, dtype=torch.int64)}
    for order, expected in (("most", 1.0), ("least", 0.0)):
        metric = bench.component("metric", f"f_fidelity:steps=4,draws=5,order={order}")
        values = metric(network=tiny_network(True), **rows, **more).values
        assert values[:, 0].tolist() == [expected] * 3 and metric.better == {"most": "higher", "least": "lower"}[order]
