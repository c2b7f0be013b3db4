"""Adversarial training by few passes and with changed weights, beside slow forms from the papers; in float64."""

from __future__ import annotations

import copy

import pytest
import slow_defenses as slow
import torch
import torch.nn.functional as F
from losses import LABELS, MEAN, STD, Asked, built, compare, draw_panel, loss_of, panel
from torch import nn
from torch.testing import assert_close

import bench
from bench import noise

IMAGES = panel().images
EPS = 8 / 255


@pytest.fixture(params=["softplus", "relu"])
def network(request):
    return built(nn.Softplus(3) if request.param == "softplus" else nn.ReLU())


def distance(network, i, draw):
    """One minus the cosine of one image's loss gradients, at the image and where it is moved."""
    slopes = []
    for image in (IMAGES[i], (IMAGES[i] + draw[i]).clamp(0, 1)):
        point = slow.leaf(image)
        slopes += torch.autograd.grad(slow.ce_one(network, point, LABELS[i]), point, create_graph=True)
    return 1 - slow.cosine(*slopes)


@pytest.mark.parametrize(("text", "step"), [("start=random,step=1.25", 1.25), ("start=image", 1.0)])
def test_gradalign(network, text, step):
    draws = draw_panel(lambda: [EPS * noise.uniform(IMAGES) for _ in range(2)])
    start = draws[0] if "random" in text else torch.zeros_like(IMAGES)
    drawn = draws[-1] if "random" in text else draws[0]
    moved = slow.pgd_attack(network, IMAGES, LABELS, EPS, step * EPS, 1, start)
    expected = slow.cross_entropy(network, moved, LABELS)
    expected = expected + 0.4 * torch.stack([distance(network, i, drawn) for i in range(4)]).mean()
    compare(network, loss_of(f"gradalign:weight=0.4,{text}", network, panel()), expected)


def test_two_steps_of_gradalign_align_gradients():
    network = built(nn.Softplus(3))
    drawn = draw_panel(lambda: 0.3 * noise.uniform(IMAGES))
    before = torch.stack([distance(network, i, drawn) for i in range(4)]).mean()
    for _ in range(2):
        weights = list(network.parameters())
        gradients = torch.autograd.grad(loss_of("gradalign:weight=1000,eps=1/3", network, panel()), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= 0.001 * gradient
    assert torch.stack([distance(network, i, drawn) for i in range(4)]).mean() < 0.95 * before


def test_fast_adversarial_training_takes_one_step_from_a_random_start(network):
    start = draw_panel(lambda: EPS * noise.uniform(IMAGES))
    moved = slow.pgd_attack(network, IMAGES, LABELS, EPS, 1.25 * EPS, 1, start)
    expected = slow.cross_entropy(network, moved, LABELS)
    compare(network, loss_of("adversarial:wong2020", network, panel()), expected)


def test_free_takes_the_step_of_images_from_the_same_backward_pass(network):
    fit = Asked(network)
    fit.batch = 6
    bench.component("defense", "free:replays=3").train(fit)
    assert fit.options["replays"] == 3
    fit.state["change"] = torch.zeros(6, 3, 4, 4, dtype=torch.float64)
    change = torch.zeros_like(IMAGES)
    for _ in range(3):
        batch = panel()
        leaf = batch.images.requires_grad_()
        loss = fit.loss(network, batch)
        compare(network, loss, slow.cross_entropy(network, (IMAGES + change).clamp(0, 1), LABELS))
        (gradient,) = torch.autograd.grad(fit.loss(network, batch), leaf)
        fit.options["after"](batch, gradient)
        for i in range(4):
            point = slow.leaf(IMAGES[i])
            (slope,) = torch.autograd.grad(slow.ce_one(network, (point + change[i]).clamp(0, 1), LABELS[i]), point)
            change[i] = (change[i] + EPS * slope.sign()).clamp(-EPS, EPS)
        assert_close(fit.state["change"][:4], change)
    assert not fit.state["change"][4:].any()


def test_awp_descends_where_the_weights_are_worst(network):
    start = draw_panel(lambda: EPS * noise.uniform(IMAGES))
    moved = slow.pgd_attack(network, IMAGES, LABELS, EPS, EPS / 4, 3, start)
    twin = copy.deepcopy(network)
    loss = slow.cross_entropy(twin, moved, LABELS)
    layers = [twin.network[0].weight, twin.network[3].weight]
    for weight, gradient in zip(layers, torch.autograd.grad(loss, layers), strict=True):
        change = gradient * (0.1 * weight.detach().square().sum().sqrt() / gradient.square().sum().sqrt())
        assert_close(change.square().sum().sqrt(), 0.1 * weight.detach().square().sum().sqrt())
        with torch.no_grad():
            weight += change
    expected = slow.cross_entropy(twin, moved, LABELS)
    assert expected > loss
    found = loss_of("awp:size=0.1,steps=3", network, panel())
    assert_close(found, expected, rtol=1e-8, atol=1e-12)
    mine = torch.autograd.grad(found, list(network.parameters()))
    for gradient, other in zip(mine, torch.autograd.grad(expected, list(twin.parameters())), strict=True):
        assert_close(gradient, other, rtol=1e-8, atol=1e-11)


def test_the_search_for_weights_does_not_move_batch_norm():
    """One pass in train mode does, of the loss, after the steps of the images in eval mode."""
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Softplus(3), nn.Flatten(), nn.Linear(16, 3))
    network = bench.Normalised(inner, MEAN, STD).double().train()
    weights = bench.component("defense", "awp").perturb(network, IMAGES, LABELS)
    assert set(weights) == {"network.0.weight", "network.4.weight"}
    assert int(inner[1].num_batches_tracked) == 0 and not inner[1].running_mean.any()
    F.cross_entropy(torch.func.functional_call(network, weights, (IMAGES,)), LABELS)
    assert int(inner[1].num_batches_tracked) == 1


def test_a_radius_in_grey_levels_is_refused():
    with pytest.raises(bench.BadValue, match="eps is 8, must be at most 1 in linf"):
        bench.component("defense", "awp:eps=8")
