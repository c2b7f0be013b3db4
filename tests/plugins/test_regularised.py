"""Defenses that keep losses flat and linear, beside slow forms of the papers' formulas; in float64."""

from __future__ import annotations

import pytest
import slow_defenses as slow
import torch
from losses import LABELS, STDS, Asked, built, compare, draw_panel, loss_of, panel
from torch import nn
from torch.testing import assert_close

import bench
from bench import noise

IMAGES = panel().images


@pytest.fixture(params=["softplus", "relu"])
def network(request):
    return built(nn.Softplus(3) if request.param == "softplus" else nn.ReLU())


def slope(network, image, label):
    """The gradient of one image's loss by its pixels, with a graph to the weights."""
    point = slow.leaf(image)
    return torch.autograd.grad(slow.ce_one(network, point, label), point, create_graph=True)[0]


def mean_over_the_panel(term):
    return torch.stack([term(i) for i in range(4)]).mean()


def jacobian_norm(network, image):
    """The squared Frobenius norm of one image's Jacobian, row by row."""
    rows = [slow.logit_gradient(network, image, k, STDS) for k in range(3)]
    return sum(row.square().sum() for row in rows)


def test_jacobian(network):
    draws = draw_panel(lambda: [noise.normal(torch.zeros(4, 3).double()) for _ in range(2)])

    def term(i):
        rows = torch.stack([slow.logit_gradient(network, IMAGES[i], k, STDS).flatten() for k in range(3)])
        vectors = [draw[i] / draw[i].square().sum().sqrt() for draw in draws]
        return sum(3 * (vector @ rows).square().sum() for vector in vectors) / 2

    expected = slow.cross_entropy(network, IMAGES, LABELS) + 0.7 / 2 * mean_over_the_panel(term)
    compare(network, loss_of("jacobian:weight=0.7,projections=2", network, panel()), expected)


def test_jacobian_is_the_squared_norm_on_average():
    network = built(nn.Softplus(3))
    exact = mean_over_the_panel(lambda i: jacobian_norm(network, IMAGES[i]))
    penalty = loss_of("jacobian:weight=2,projections=300", network, panel()) - loss_of("ce", network, panel())
    assert_close(penalty, exact, rtol=0.06, atol=0)


def curvature(network, i, h):
    clean = STDS * slope(network, IMAGES[i], LABELS[i])
    sign = clean.detach().sign()
    moved = STDS * slope(network, IMAGES[i] + STDS * h * sign / sign.square().sum().sqrt(), LABELS[i])
    return (moved - clean).square().sum()


def test_cure(network):
    penalty = mean_over_the_panel(lambda i: curvature(network, i, 0.6))
    expected = slow.cross_entropy(network, IMAGES, LABELS) + 0.3 * penalty
    compare(network, loss_of("cure:weight=0.3,h=0.6", network, panel()), expected)


def departure(network, i, moved):
    """The departure of one image's loss from a line, and its rise along the line."""
    rise = ((moved - IMAGES[i]) * slope(network, IMAGES[i], LABELS[i])).sum()
    losses = [slow.ce_one(network, image, LABELS[i]) for image in (moved, IMAGES[i])]
    return (losses[0] - losses[1] - rise).abs(), rise.abs()


def test_llr(network):
    start = draw_panel(lambda: 8 / 255 * noise.uniform(IMAGES))

    def term(i):
        def objective(point):
            clean = slope(network, IMAGES[i], LABELS[i]).detach()
            rise = ((point - IMAGES[i]) * clean).sum()
            return (slow.ce_one(network, point, LABELS[i]) - slow.ce_one(network, IMAGES[i], LABELS[i]) - rise).abs()

        moved = slow.ascend(objective, IMAGES[i], 8 / 255, 4 / 255, 3, start[i])
        far, rise = departure(network, i, moved)
        return 2 * far + 0.7 * rise

    expected = slow.cross_entropy(network, IMAGES, LABELS) + mean_over_the_panel(term)
    compare(network, loss_of("llr:weight=2,slope=0.7,steps=3", network, panel()), expected)


def gap(network, i, k):
    """The differences of pairs of values as the authors' code lists them: those before the k-th, and k after it."""
    values = (STDS * slope(network, IMAGES[i], LABELS[i])).abs().sum(0).flatten().sort(descending=True).values
    pairs = [(j, k - 1) for j in range(k - 1)] + [(k - 1, k + j) for j in range(k)]
    return sum(values[first] - values[second] for first, second in pairs)


@pytest.mark.parametrize("adaptive", [True, False])
def test_r2et(network, adaptive):
    loss = slow.cross_entropy(network, IMAGES, LABELS)
    expected = loss
    thin = -mean_over_the_panel(lambda i: gap(network, i, 5))
    bent = mean_over_the_panel(lambda i: curvature(network, i, 0.6).sqrt() / 0.6)
    for weight, penalty in ((0.3, thin), (0.2, bent)):
        scale = (1 + float(loss.detach())) / abs(float(penalty.detach())) if adaptive else 1
        expected = expected + weight * scale * penalty
    text = f"r2et:k=5,weight=0.3,bending=0.2,h=0.6,adaptive={str(adaptive).lower()}"
    compare(network, loss_of(text, network, panel()), expected)


def test_r2et_needs_pixels_beside_those_at_the_top():
    with pytest.raises(bench.BadValue, match="r2et: k is 73, images are 12 x 12; give at most half of their pixels"):
        bench.component("defense", "r2et:k=73").train(Asked(None))


def corner(i):
    return (IMAGES[i] + 8 / 255 * (-1) ** torch.arange(48).view(3, 4, 4)).clamp(0, 1)


@pytest.mark.parametrize(
    ("text", "penalty"),
    [
        ("jacobian:weight=1", lambda network, i: jacobian_norm(network, IMAGES[i])),
        ("cure:weight=100", lambda network, i: curvature(network, i, 1.5)),
        ("r2et:k=5,weight=10,bending=0", lambda network, i: 1 / gap(network, i, 5)),
        ("r2et:k=5,weight=0,bending=10,h=1.5", lambda network, i: curvature(network, i, 1.5)),
        ("llr:weight=100", lambda network, i: departure(network, i, corner(i))[0]),
    ],
)
def test_two_steps_lower_the_penalty(text, penalty):
    network = built(nn.Softplus(3))
    before = mean_over_the_panel(lambda i: penalty(network, i))
    for _ in range(2):
        weights = list(network.parameters())
        gradients = torch.autograd.grad(loss_of(text, network, panel()), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= 0.01 * gradient
    assert mean_over_the_panel(lambda i: penalty(network, i)) < 0.95 * before


def test_a_loss_that_is_the_same_everywhere_has_no_penalty():
    network = built(nn.Softplus(3))
    with torch.no_grad():
        network.network[3].weight.zero_()
        network.network[3].bias.zero_()
    for text in ("jacobian", "cure", "llr"):
        assert_close(loss_of(text, network, panel()), torch.tensor(3.0).double().log())
