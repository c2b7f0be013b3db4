"""Grad-CAM++, HiResCAM and LayerCAM beside slow loops from the papers; in float64."""

from __future__ import annotations

import math

import pytest
import slow_explainers as slow
import torch
from torch import nn
from torch.testing import assert_close

import bench

TARGETS = torch.tensor([0, 2, 1])


def make(activation, *head):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3, stride=2), activation, *[layer() for layer in head]]
    return [layer.double().eval().requires_grad_(False) for layer in layers]


def deep():
    return [lambda: nn.Conv2d(4, 5, 2), nn.ReLU, nn.Flatten, lambda: nn.Linear(20, 3)]


@pytest.fixture
def images():
    return torch.rand(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def find(text, layers, images):
    with torch.no_grad():
        return bench.component("explainer", text).attribute(nn.Sequential(*layers), images, TARGETS)


def gradcam_pp(a, g, score):
    """Eq. 5 and 19, with the derivatives of Y = exp(score): g exp(score), g^2 exp(score), g^3 exp(score)."""
    cam = torch.zeros(a.shape[1:], dtype=a.dtype)
    for k in range(len(a)):
        weight = 0.0
        for first in g[k].flatten().tolist():
            second, third = (math.exp(score) * first**power for power in (2, 3))
            below = 2 * second + sum(third * value for value in a[k].flatten().tolist())
            weight += (second / below if below else 0.0) * max(first * math.exp(score), 0.0)
        cam += weight * a[k]
    return cam.clamp(min=0) / math.exp(score)


def hirescam(a, g, score):
    return sum(g[k] * a[k] for k in range(len(a)))


def layercam(a, g, score):
    return sum(g[k].clamp(min=0) * a[k] for k in range(len(a))).clamp(min=0)


@pytest.mark.parametrize("function", [gradcam_pp, hirescam, layercam])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Softplus(3)], ids=["relu", "softplus"])
def test_class_maps_beside_slow_loops(function, activation, images):
    layers = make(activation, *deep())
    found = find(f"{function.__name__}:layer=1", layers, images)
    for i, target in enumerate(TARGETS.tolist()):
        a = slow.forward(layers[:2], images[i])[-1]
        g = slow.gradient(layers[2:], a, target)
        coarse = function(a, g, float(slow.forward(layers[2:], a)[-1][target]))
        assert_close(found[i, 0], slow.resize_bilinear(coarse, 8, 8))


def test_hirescam_adds_up_to_the_logit_where_a_linear_layer_follows(images):
    layers = make(nn.ReLU(), nn.Flatten, lambda: nn.Linear(36, 3))
    found = find("hirescam", layers, images)
    # With aligned corners, 8 pixels show every cell of 3 only at the corners; the last layer's map has the cells.
    explainer = bench.component("explainer", "hirescam")
    a = nn.Sequential(*layers[:2])(images)
    weights = layers[-1].weight[TARGETS].view_as(a)
    coarse = explainer.combine(a, weights)
    assert_close(coarse.sum((1, 2, 3)) + layers[-1].bias[TARGETS], nn.Sequential(*layers)(images)[range(3), TARGETS])
    assert_close(found[..., ::7, ::7], coarse[..., ::2, ::2])


@pytest.mark.parametrize("name", ["gradcam_pp", "hirescam", "layercam"])
def test_messages_name_the_explainer(name, images):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).double()
    with pytest.raises(bench.BadComponent, match=f"^{name}: no layer of the network gives feature maps"):
        bench.component("explainer", name).attribute(flat, images, TARGETS)
