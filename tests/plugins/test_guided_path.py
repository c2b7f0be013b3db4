"""Guided integrated gradients beside a slow walk, element by element; in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import bench
from bench.testing import tiny_images, tiny_network

IMAGES, TARGETS = tiny_images(2, (3, 4, 4))


def walk(network, image, target, start, steps, fraction, distance):
    """Move lists of numbers as the authors do: behind, ahead, and those of smallest gradients."""
    end = image.flatten().tolist()
    place, size = [start] * len(end), len(end)
    found, whole = [0.0] * size, sum(abs(e - start) for e in end)
    for step in range(1, steps + 1):
        point = torch.tensor(place, dtype=torch.float64).view_as(image)[None].requires_grad_()
        network(point)[0, target].backward()
        gradient = point.grad.flatten().tolist()
        before = list(place)
        low, high = max(step / steps - distance, 0), min(step / steps + distance, 1)
        line = [(start + low * (e - start), start + high * (e - start)) for e in end]
        for i in range(size):
            if abs(place[i] - start) < abs(line[i][0] - start):
                place[i] = line[i][0]
        goal, done = whole * (1 - step / steps), {i for i, e in enumerate(end) if e == start or place[i] == line[i][1]}
        while (left := sum(abs(e - p) for e, p in zip(end, place, strict=True)) - goal) > 1e-12 * whole:
            order = sorted(math.inf if i in done else abs(gradient[i]) for i in range(size))
            most = order[int(fraction * (size - 1))]
            chosen = [i for i in range(size) if i not in done and abs(gradient[i]) <= most]
            room = sum(abs(line[i][1] - place[i]) for i in chosen)
            for i in chosen:
                place[i] += min(left / room, 1) * (line[i][1] - place[i])
            if left <= room:
                break
            done |= set(chosen)
        found = [f + g * (p - b) for f, g, p, b in zip(found, gradient, place, before, strict=True)]
    return torch.tensor(found, dtype=torch.float64).view_as(image)


@pytest.mark.parametrize("fraction, distance", [(0.25, 0.02), (0.1, 1), (0.1, 0.3), (1, 0)])
@pytest.mark.parametrize("baseline", ["mean", "black"])
def test_path_beside_a_slow_walk(baseline, fraction, distance):
    network = tiny_network(True, shape=(3, 4, 4))
    images = IMAGES.clone()
    images[0, :, 0] = 0.5 if baseline == "mean" else 0.0  # elements that have no way to go
    text = f"guided_integrated_gradients:steps=5,fraction={fraction},distance={distance},baseline={baseline}"
    found = bench.component("explainer", text).attribute(network, images, TARGETS)
    start = 0.5 if baseline == "mean" else 0.0
    for i in range(2):
        expected = walk(network, images[i], TARGETS[i], start, 5, fraction, distance)
        assert_close(found[i], expected, rtol=1e-6, atol=1e-9)


def test_path_ends_at_the_image_so_that_a_linear_network_gives_its_terms():
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).double().requires_grad_(False)
    explainer = bench.component("explainer", "guided_integrated_gradients:steps=7,distance=0.4,baseline=black")
    found = explainer.attribute(network, IMAGES, TARGETS)
    assert_close(found, network[1].weight[TARGETS].view(2, 3, 4, 4) * IMAGES)


def test_attribution_adds_up_to_what_the_logit_gains():
    network = tiny_network(True, shape=(3, 4, 4))
    explainer = bench.component("explainer", "guided_integrated_gradients:steps=200,distance=0.2")
    found = explainer.attribute(network, IMAGES, TARGETS).sum((1, 2, 3))
    grey = torch.full_like(IMAGES, 0.5)
    gain = (network(IMAGES) - network(grey)).gather(1, TARGETS[:, None])[:, 0]
    assert_close(found, gain, rtol=0.1, atol=1e-3)
