"""RISE beside a slow loop from the paper; in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import bench
from bench import noise
from bench.testing import tiny_images, tiny_network

TARGETS = torch.tensor([0, 1, 2, 0, 1])


@pytest.fixture
def images():
    return tiny_images()[0]


def enlarge(grid, height, width):
    """Bilinear: pixel i of n shows the point (i + 1/2) m / n - 1/2 of m cells, and the border beyond the outer ones."""

    def weigh(i, n, m):
        at = min(max((i + 0.5) * m / n - 0.5, 0), m - 1)
        low = min(int(at), m - 1)
        return low, min(low + 1, m - 1), at - low

    out = torch.zeros(height, width, dtype=torch.float64)
    for i in range(height):
        top, bottom, v = weigh(i, height, len(grid))
        for j in range(width):
            left, right, u = weigh(j, width, len(grid[0]))
            out[i, j] = (1 - v) * ((1 - u) * grid[top][left] + u * grid[top][right]) + v * (
                (1 - u) * grid[bottom][left] + u * grid[bottom][right]
            )
    return out


@pytest.mark.parametrize("fill", ["mean", "black"])
def test_rise_beside_a_slow_loop(images, fill):
    network, cells, shown = tiny_network(True), 5, 0.4  # 12 pixels are cells of 3, the last of which is cut
    with torch.no_grad(), noise.rows(3, "x", range(5)):
        found = bench.component("explainer", f"rise:samples=4,cells=5,shown=0.4,fill={fill}").attribute(
            network, images, TARGETS
        )
    hidden = network.mean.double() if fill == "mean" else torch.zeros(3, 1, 1, dtype=torch.float64)
    for i, target in enumerate(TARGETS.tolist()):
        expected = torch.zeros(12, 12, dtype=torch.float64)
        for draw in range(4):
            with noise.rows(3, "x", [i]), noise.repeat(range(draw, draw + 1)):
                drawn = noise.uniform(torch.empty(1, 1, cells, cells, dtype=torch.float64), 0, 1)[0, 0].tolist()
                top, left = (int(3 * u) for u in noise.uniform(torch.empty(1, 2, dtype=torch.float64), 0, 1)[0])
            wide = enlarge([[float(u < shown) for u in row] for row in drawn], 18, 18)
            mask = wide[top : top + 12, left : left + 12]
            logits = network((images[i] * mask + hidden * (1 - mask))[None])[0].tolist()
            expected += math.exp(logits[target]) / sum(map(math.exp, logits)) * mask / (4 * shown)
        assert_close(found[i, 0], expected)


def test_rise_finds_the_one_pixel_that_a_network_looks_at():
    class Look(nn.Module):
        def forward(self, images):
            seen = 20 * images[:, 0, 9, 2]
            return torch.stack([seen, 10 - seen], 1)

    images = torch.ones(1, 3, 12, 12, dtype=torch.float64)
    with torch.no_grad():
        maps = bench.component("explainer", "rise:samples=400,cells=6,fill=black").maps(Look(), images, [0])
    assert abs(int(maps.argmax()) // 12 - 9) <= 1 and abs(int(maps.argmax()) % 12 - 2) <= 1


def test_rise_needs_no_gradient_of_the_network(images):
    class Unknown(nn.Module):
        def forward(self, images):
            with torch.no_grad():
                return images.mean((2, 3))

    explainer = bench.component("explainer", "rise:samples=3,cells=3")
    assert explainer.maps(Unknown(), images, TARGETS, normalisation=(0.5, 0.5)).isfinite().all()
