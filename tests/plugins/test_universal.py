"""One perturbation for all images, beside a slow loop in float64."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch.testing import assert_close

import bench
from bench import noise
from bench.testing import tiny_images, tiny_network

BALLS = [bench.Ball("linf", Fraction(8, 255)), bench.Ball("l2", Fraction(1, 2))]
IMAGES, TARGETS = tiny_images(6)
REFERENCES = torch.rand(5, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def victim(network, references=REFERENCES):
    return bench.Victim(network, bench.component("explainer", "gradient"), references)


def perturbed(text, network, ball):
    with noise.rows(1, "attack", range(len(IMAGES))):
        return bench.component("attack", text).perturb(victim(network), IMAGES, TARGETS, ball)


def softplus(network):
    layers = [torch.nn.Softplus(20) if isinstance(m, torch.nn.ReLU) else m for m in network.network]
    return bench.Normalised(torch.nn.Sequential(*layers), [0.5] * 3, [0.25] * 3).double().eval()


def shares(network, change, tops, classes, graph=False):
    """The mass of each reference's map in the top pixels of its clean map."""
    found = []
    for image, top, label in zip(REFERENCES, tops, classes, strict=True):
        leaf = (image + change).clamp(0, 1)
        leaf = leaf if leaf.requires_grad else leaf.requires_grad_()
        (gradient,) = torch.autograd.grad(network(leaf[None])[0, label], leaf, create_graph=graph)
        maps = gradient.abs().sum(0).flatten()
        found.append(maps[top].sum() / maps.sum())
    return torch.stack(found)


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_the_perturbation_lowers_the_mean_over_references(ball):
    network, eps = tiny_network(smooth=False), float(ball.eps)
    surrogate, classes = softplus(network), network(REFERENCES).argmax(1)
    tops = []
    for image, label in zip(REFERENCES, classes, strict=True):
        leaf = image.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(leaf[None])[0, label], leaf)
        tops.append(gradient.abs().sum(0).flatten().argsort(descending=True)[:5])
    best = torch.zeros(3, 12, 12, dtype=torch.float64)
    clean = shares(network, best, tops, classes).detach()
    grey, least = torch.full_like(IMAGES[:1], 0.5), clean.mean()
    with noise.rows(0, "universal", [0]):
        change = 0.1 * (ball.sample(grey) - grey)[0]
    for _ in range(5):
        leaf = change.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(shares(surrogate, leaf, tops, classes, graph=True).mean(), leaf)
        if ball.norm == "linf":
            change = (change - 0.3 * eps * gradient.sign()).clamp(-eps, eps)
        else:
            change = change - 0.3 * eps * gradient / gradient.norm()
            change = change * min(1.0, eps / float(change.norm()))
        score = shares(network, change, tops, classes).detach()
        score = torch.where(network((REFERENCES + change).clamp(0, 1)).argmax(1) == classes, score, clean).mean()
        if score < least:
            best, least = change, score
    assert best.any()
    found = perturbed("universal:steps=5,step=0.3,like=(topk:k=5)", network, ball)
    assert_close(found, (IMAGES + best).clamp(0, 1), rtol=1e-7, atol=1e-9)


def test_it_leaves_less_of_new_images_than_signs_that_all_share():
    network, ball = tiny_network(smooth=False), bench.Ball("linf", Fraction(16, 255))
    objective = bench.component("attack", "topk:k=5").make_objective(victim(network), IMAGES, TARGETS)
    found = perturbed("universal:steps=20,like=(topk:k=5)", network, ball)
    change = (found - IMAGES).flatten(1)
    inside = ((found > 0) & (found < 1)).all(0).flatten()
    assert_close(change[:, inside], change[:1, inside].expand(6, -1))
    shared = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(0)).sign() * 16 / 255
    with torch.no_grad():
        assert objective(found).mean() < objective((IMAGES + shared).clamp(0, 1)).mean() < objective(IMAGES).mean()


def test_what_it_cannot_do_without_is_said():
    attack, network = bench.component("attack", "universal:like=(topk:k=5)"), tiny_network(True)
    for references in (None, REFERENCES[:0]):
        with pytest.raises(
            bench.BadValue, match="universal needs training images, and there are none; take a data set"
        ):
            attack.perturb(victim(network, references), IMAGES, TARGETS, BALLS[0])
    with pytest.raises(bench.BadValue, match=r"attack sign_noise has no objective to lower; name another with like="):
        perturbed("universal:like=(sign_noise)", network, BALLS[0])
