"""Attacks beside slow loops from the papers, one image at a time, in float64."""

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


@pytest.fixture(params=[True, False], ids=["softplus", "relu"])
def network(request):
    return tiny_network(request.param)


def victim(network, explainer="gradient"):
    return bench.Victim(network, bench.component("explainer", explainer))


def perturbed(text, network, ball, explainer="gradient"):
    with noise.rows(1, "attack", range(len(IMAGES))):
        return bench.component("attack", text).perturb(victim(network, explainer), IMAGES, TARGETS, ball)


def softplus(network):
    """The same weights with softplus(20) for ReLU, built anew."""
    layers = [torch.nn.Softplus(20) if isinstance(m, torch.nn.ReLU) else m for m in network.network]
    return bench.Normalised(torch.nn.Sequential(*layers), [0.5] * 3, [0.25] * 3).double().eval()


def saliency(network, image, target, graph=False):
    leaf = image if image.requires_grad else image.clone().requires_grad_()
    logits = network(leaf[None])[0]
    (found,) = torch.autograd.grad(logits[target], leaf, create_graph=graph)
    summed = found.abs().sum(0)
    return summed / summed.sum(), logits.detach()


def slow(network, image, target, score_of, steps, start, ball):
    """Ghorbani et al., Alg. 1: steps on the surrogate, the best iterate on the network itself."""
    surrogate, eps = softplus(network), float(ball.eps)
    clean, logits = saliency(network, image, target)
    score, prediction = score_of(clean), logits.argmax()
    best, least = image, score(clean)
    moved = start
    for _ in range(steps):
        leaf = moved.clone().requires_grad_()
        maps, _ = saliency(surrogate, leaf, target, graph=True)
        (gradient,) = torch.autograd.grad(score(maps), leaf)
        if ball.norm == "linf":
            change = moved - 0.1 * eps * gradient.sign() - image
            change = change.clamp(-eps, eps)
        else:
            change = moved - 0.1 * eps * gradient / gradient.norm() - image
            change = change * min(1.0, eps / float(change.norm()))
        moved = (image + change).clamp(0, 1)
        maps, logits = saliency(network, moved, target)
        if logits.argmax() == prediction and score(maps) < least:
            best, least = moved, score(maps)
    return best


def top_share(clean):
    chosen = clean.flatten().argsort(descending=True)[:5]
    return lambda maps: maps.flatten()[chosen].sum()


def minus_distance(clean):
    grid = torch.arange(12, dtype=torch.float64)

    def center(maps):
        return torch.stack([(maps.sum(1) * grid).sum(), (maps.sum(0) * grid).sum()])

    return lambda maps: -(center(maps) - center(clean)).square().sum()


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_topk_is_the_papers_algorithm(network, ball):
    found = perturbed("topk:k=5,steps=8", network, ball)
    for i in range(6):
        expected = slow(network, IMAGES[i], TARGETS[i], top_share, 8, IMAGES[i], ball)
        assert_close(found[i], expected, rtol=1e-7, atol=1e-9)
    assert not torch.equal(found, IMAGES)


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_mass_center_is_the_papers_algorithm(network, ball):
    found = perturbed("mass_center:steps=8", network, ball)
    with noise.rows(1, "attack", range(6)):
        starts = IMAGES + 0.1 * (ball.sample(IMAGES) - IMAGES)
    for i in range(6):
        expected = slow(network, IMAGES[i], TARGETS[i], minus_distance, 8, starts[i], ball)
        assert_close(found[i], expected, rtol=1e-7, atol=1e-9)


def test_the_centre_of_mass_by_hand():
    from bench_attacks.mass_center import center

    maps = torch.zeros(2, 3, 4, dtype=torch.float64)
    maps[0, 2, 3] = 1
    maps[1, 0, 0] = maps[1, 2, 1] = 0.5
    assert_close(center(maps), torch.tensor([[2.0, 3.0], [1.0, 0.5]], dtype=torch.float64))


@pytest.mark.parametrize("attack", ["topk:k=5,steps=4", "mass_center:steps=4"])
def test_more_starts_are_never_worse(network, attack):
    ball = BALLS[0]
    one, three = (perturbed(f"{attack},restarts={n}", network, ball) for n in (1, 3))
    with torch.no_grad():
        objective = bench.component("attack", attack).objective(victim(network), IMAGES, TARGETS)
        assert (objective(three) <= objective(one) + 1e-12).all()
        assert (objective(three) < objective(one)).any()


@pytest.mark.parametrize("kind", ["uniform_noise", "sign_noise", "sign_noise:path=walk"])
@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_the_best_candidate_is_taken(network, kind, ball):
    joined = f"{kind}{',' if ':' in kind else ':'}candidates=5,like=(topk:k=5)"
    found = perturbed(joined, network, ball)
    objective = bench.component("attack", "topk:k=5").objective(victim(network), IMAGES, TARGETS)
    draws, moved = [IMAGES], IMAGES
    with noise.rows(1, "attack", range(6)):
        for _ in range(5):
            if kind == "uniform_noise":
                moved = ball.sample(IMAGES)
            else:
                start, length = (moved, 0.1) if "walk" in kind else (IMAGES, 1.0)
                signs = noise.signs(IMAGES)
                unit = signs if ball.norm == "linf" else signs / signs[0].numel() ** 0.5
                moved = ball.project(start + length * float(ball.eps) * unit, IMAGES)
            draws.append(moved)
    with torch.no_grad():
        clean = network(IMAGES).argmax(1)
        scores = torch.stack([objective(d).masked_fill(network(d).argmax(1) != clean, 9.0) for d in draws])
    expected = torch.stack(draws)[scores.argmin(0), torch.arange(6)]
    assert_close(found, expected)
    assert not torch.equal(found, IMAGES)


def test_one_draw_is_taken_as_it_comes(network):
    with noise.rows(1, "attack", range(6)):
        expected = BALLS[0].project(IMAGES + 8 / 255 * noise.signs(IMAGES), IMAGES)
    assert_close(perturbed("sign_noise", network, BALLS[0]), expected)


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_random_search_keeps_what_is_better_and_asks_for_no_gradient(network, ball):
    few, many = (perturbed(f"random_search:queries={n},like=(topk:k=5)", network, ball) for n in (5, 60))
    objective = bench.component("attack", "topk:k=5").objective(victim(network), IMAGES, TARGETS)
    with torch.no_grad():
        before, some, more = objective(IMAGES), objective(few), objective(many)
        assert (some <= before).all() and (more < before).float().mean() > 0.6 and more.mean() < some.mean()
        assert torch.equal(network(many).argmax(1), network(IMAGES).argmax(1))
    controlled = perturbed("random_search:queries=5,like=(topk:k=5)", network, ball, "random_map")
    assert controlled.shape == IMAGES.shape


def test_squares_lie_inside_and_move(network):
    from bench_attacks.random_search import squares

    with noise.rows(0, "x", range(500)):
        found = squares(torch.zeros(500, 3, 6, 9), 3)[:, 0]
    assert (found.sum((1, 2)) == 9).all() and found.any(0).all()


def test_white_box_beats_as_many_candidates_of_noise(network):
    ball, steps = BALLS[0], 20
    objective = bench.component("attack", "topk:k=5").objective(victim(network), IMAGES, TARGETS)
    with torch.no_grad():
        white = objective(perturbed(f"topk:k=5,steps={steps}", network, ball))
        for control in ("uniform_noise", "sign_noise"):
            assert (white < objective(perturbed(f"{control}:candidates={steps},like=(topk:k=5)", network, ball))).all()


def test_an_attack_without_an_objective_cannot_choose(network):
    with pytest.raises(
        bench.BadValue, match=r"attack sign_noise has no objective to choose by; name another with like="
    ):
        perturbed("uniform_noise:candidates=2,like=(sign_noise)", network, BALLS[0])
