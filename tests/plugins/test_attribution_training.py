"""Trainings that keep integrated gradients, beside slow forms of the papers' formulas; in float64."""

from __future__ import annotations

from fractions import Fraction

import pytest
import scipy.stats
import slow_defenses as slow
import torch
from bench_defenses.attributions import cosine_distance, integrated_gradients, pearson_distance
from losses import LABELS, built, compare, draw_panel, loss_of, panel
from torch import nn
from torch.testing import assert_close

import bench

IMAGES = panel().images
BALL = bench.Ball("linf", Fraction(8, 255))


@pytest.fixture(params=["softplus", "relu"])
def network(request):
    return built(nn.Softplus(3) if request.param == "softplus" else nn.ReLU())


def slow_ig(network, image, label, points):
    total = torch.zeros_like(image)
    for k in range(1, points + 1):
        point = (k / points) * image
        point = point if point.requires_grad else slow.leaf(point)
        score = slow.logits_of(network, point)[int(label)]
        total = total + torch.autograd.grad(score, point, create_graph=True)[0] / points
    return image * total


def correlation(first, second):
    first, second = (each - each.sum() / each.numel() for each in (first, second))
    return slow.cosine(first, second)


def mean_over_the_panel(term):
    return torch.stack([term(i) for i in range(4)]).mean()


def test_integrated_gradients_are_complete_and_distances_are_those_of_scipy():
    network = built(nn.Softplus(3))
    maps = integrated_gradients(network, IMAGES, LABELS, 2000)
    change = (network(IMAGES) - network(torch.zeros_like(IMAGES))).gather(1, LABELS[:, None])[:, 0]
    assert_close(maps.sum((1, 2, 3)), change, rtol=1e-3, atol=1e-3)
    first, second = maps.detach(), maps.detach().flip(0)
    for i in range(4):
        pair = [each[i].flatten().numpy() for each in (first, second)]
        assert float(pearson_distance(first, second)[i]) == pytest.approx(1 - scipy.stats.pearsonr(*pair)[0], rel=1e-6)
        assert float(cosine_distance(first, second)[i]) == pytest.approx(scipy.spatial.distance.cosine(*pair), rel=1e-6)


def starts():
    return draw_panel(lambda: BALL.sample(IMAGES) - IMAGES)


def test_igr(network):
    start = starts()

    def term(i):
        def objective(point):
            return slow.ce_one(network, point, LABELS[i])

        moved = slow.ascend(objective, IMAGES[i], 8 / 255, 2 / 255, 3, start[i])
        maps = [slow_ig(network, each, LABELS[i], 4) for each in (IMAGES[i], moved)]
        return slow.ce_one(network, moved, LABELS[i]) + 0.7 * (1 - slow.cosine(*maps))

    compare(network, loss_of("igr:weight=0.7,steps=3,points=4", network, panel()), mean_over_the_panel(term))


@pytest.mark.parametrize("form", ["aat", "advaat"])
def test_far(network, form):
    start = starts()

    def term(i):
        clean = slow_ig(network, IMAGES[i], LABELS[i], 4)

        def objective(point):
            distance = 1 - correlation(clean.detach(), slow_ig(network, point, LABELS[i], 4))
            return distance if form == "aat" else slow.ce_one(network, point, LABELS[i]) + 0.7 * distance

        moved = slow.ascend(objective, IMAGES[i], 8 / 255, 2 / 255, 3, start[i])
        distance = 1 - correlation(clean, slow_ig(network, moved, LABELS[i], 4))
        return slow.ce_one(network, IMAGES[i] if form == "aat" else moved, LABELS[i]) + 0.7 * distance

    found = loss_of(f"far:form={form},weight=0.7,steps=3,points=4", network, panel())
    compare(network, found, mean_over_the_panel(term))


@pytest.mark.parametrize("text", ["igr:weight=500,steps=2,points=5", "far:weight=500,steps=2,points=5"])
def test_two_steps_bring_the_attributions_of_neighbours_together(text):
    network = built(nn.Softplus(3))
    moved = BALL.project(IMAGES + starts().sign(), IMAGES)

    def distance():
        maps = [integrated_gradients(network, each, LABELS, 5) for each in (IMAGES, moved)]
        return float(pearson_distance(*maps).detach().mean())

    before = distance()
    for _ in range(2):
        weights = list(network.parameters())
        gradients = torch.autograd.grad(loss_of(text, network, panel()), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= 0.01 * gradient
    assert distance() < 0.95 * before
