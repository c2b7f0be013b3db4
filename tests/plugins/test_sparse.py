"""The ball of a number of pixels, and attacks in it, beside exhaustive search and a slow loop in float64."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
import torch
from torch.testing import assert_close

import bench
from bench import noise
from bench.testing import tiny_images, tiny_network

BALL = bench.Ball("l0", Fraction(7))
IMAGES, TARGETS = tiny_images(4)


def victim(network):
    return bench.Victim(network, bench.component("explainer", "gradient"), IMAGES.flip(0), lambda defense: network)


def perturbed(text, network, images=IMAGES, ball=BALL):
    with noise.rows(1, "attack", range(len(images))):
        return bench.component("attack", text).perturb(victim(network), images, TARGETS, ball)


def count(moved, images):
    return (moved != images).any(1).flatten(1).sum(1)


def test_the_projection_is_the_nearest_image_of_all():
    ball, origin = bench.Ball("l0", Fraction(2)), torch.rand(5, 2, 2, 3, dtype=torch.float64)
    moved = origin + torch.randn_like(origin)
    found = ball.project(moved, origin)
    for image, start, nearest in zip(moved, origin, found, strict=True):
        tried = []
        for chosen in itertools.combinations(range(6), 2):
            inside = start.clone().flatten(1)
            inside[:, chosen] = image.flatten(1)[:, chosen].clamp(0, 1)
            tried.append((inside.view_as(image) - image).square().sum())
        assert_close((nearest - image).square().sum(), min(tried))
    assert_close(ball.project(found, origin), found)
    assert torch.equal(bench.Ball("l0", Fraction(0)).project(moved, origin), origin)
    assert torch.equal(bench.Ball("l0", Fraction(99)).project(moved, origin), moved.clamp(0, 1))


def test_draws_change_so_many_pixels_to_any_colour():
    ball, origin = bench.Ball("l0", Fraction(2)), torch.full((3000, 3, 2, 3), 0.5)
    drawn = ball.sample(origin)
    assert (count(drawn, origin) == 2).all() and drawn.min() >= 0 and drawn.max() <= 1
    assert_close((drawn != origin).any(1).float().mean(0), torch.full((2, 3), 1 / 3), atol=0.03, rtol=0)
    colours = drawn[(drawn != origin)]
    assert_close(torch.stack([colours.mean(), colours.std()]), torch.tensor([0.5, 12**-0.5]), atol=0.02, rtol=0)


def test_topk_takes_the_steps_of_croce_and_hein():
    network = tiny_network(smooth=True)  # which nothing softens
    found = perturbed("topk:k=5,steps=6,step=0.5", network)
    for row, image in enumerate(IMAGES):

        def share(leaf, row=row, graph=True, top=None):
            (gradient,) = torch.autograd.grad(network(leaf[None])[0, TARGETS[row]], leaf, create_graph=graph)
            maps = gradient.abs().sum(0).flatten()
            top = maps.argsort(descending=True)[:5] if top is None else top
            return (maps[top] / maps.sum()).sum(), top

        least, top = share(image.clone().requires_grad_(), graph=False)
        best = moved = image
        for _ in range(6):
            leaf = moved.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(share(leaf, top=top)[0], leaf)
            ahead = moved - 0.5 * gradient / gradient.abs().max()
            gains = (ahead - image).square() - (ahead - ahead.clamp(0, 1)).square()
            moved = image.clone()
            for place in gains.sum(0).flatten().argsort(descending=True)[:7].tolist():
                moved[:, place // 12, place % 12] = ahead[:, place // 12, place % 12].clamp(0, 1)
            score = share(moved.clone().requires_grad_(), graph=False, top=top)[0]
            if network(moved[None]).argmax() == network(image[None]).argmax() and score < least:
                best, least = moved, score
        assert_close(found[row], best, rtol=1e-7, atol=1e-9)
    assert (count(found, IMAGES) == 7).any()


ATTACKS = [
    "topk:k=5,steps=3,optimiser=adam",
    "topk:k=5,steps=3,objective=hinge,optimiser=adaptive",
    "mass_center:steps=3",
    "target_map:steps=3",
    "topk_l2:steps=3",
    "pgd:steps=3",
    "adv2:flips=2,steps=2",
    "random_search:queries=4,like=(topk:k=5)",
    "evolution:steps=2,population=4,like=(topk:k=5)",
    "genetic:steps=2,population=4,parents=2,like=(topk:k=5)",
    "universal:steps=2,like=(topk:k=5)",
    "sign_noise",
    "uniform_noise",
    "standard:quick",
]


@pytest.mark.parametrize("text", ATTACKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_no_attack_changes_more_pixels_or_leaves_the_box(text, dtype):
    network, images = tiny_network(smooth=False, dtype=dtype), IMAGES.to(dtype)
    moved = perturbed(text, network, images)
    assert (count(moved, images) <= 7).all() and moved.min() >= 0 and moved.max() <= 1
    assert not torch.equal(moved, images)


def test_a_white_box_leaves_less_than_as_many_draws():
    network = tiny_network(smooth=False)
    score = bench.component("attack", "topk:k=5").make_objective(victim(network), IMAGES, TARGETS)
    with torch.no_grad():
        white, blind = (
            score(perturbed(text, network)).mean()
            for text in ("topk:k=5,steps=20", "uniform_noise:candidates=20,like=(topk:k=5)")
        )
    assert white < blind


def test_a_number_of_pixels_is_whole():
    with pytest.raises(bench.BadValue, match="eps 5/2 is impossible in l0: it is a number of pixels; write a whole"):
        bench.Ball("l0", Fraction(5, 2))
    assert bench.Ball("l0", Fraction(5)).resize(Fraction(5, 2)) == bench.Ball("l0", Fraction(2))
    assert str(BALL) == "l0:7" and BALL.reach == 1 and bench.Ball("l0", Fraction(0)).reach == 0
