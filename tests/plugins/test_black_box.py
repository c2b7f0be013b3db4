"""Attacks by queries beside slow loops, one image at a time, in float64."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch.testing import assert_close

import bench
from bench import noise
from bench.testing import tiny_images, tiny_network

BALLS = [bench.Ball("linf", Fraction(8, 255)), bench.Ball("l2", Fraction(1, 2))]
IMAGES, TARGETS = tiny_images(4)
REFERENCES = torch.rand(3, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
LIKE = "topk:k=5"


def victim(network, **given):
    return bench.Victim(network, bench.component("explainer", "gradient"), REFERENCES, **given)


def perturbed(text, network, ball):
    with noise.rows(1, "attack", range(len(IMAGES))):
        return bench.component("attack", text).perturb(victim(network), IMAGES, TARGETS, ball)


def judge(network, like=LIKE):
    """A function of one image and its number: its score, and whether it keeps the prediction."""
    attack, alone = bench.component("attack", like), [slice(row, row + 1) for row in range(len(IMAGES))]
    scores = [attack.make_loss(victim(network), IMAGES[row], TARGETS[row]) for row in alone]
    clean = network(IMAGES).argmax(1)

    def judged(image, row):
        return float(scores[row](image[None])), int(network(image[None]).argmax()) == clean[row]

    return judged


class Best:
    def __init__(self, image, score):
        self.image, self.score = image, score

    def offer(self, image, score, kept):
        if kept and score < self.score:
            self.image, self.score = image, score


def project(moved, image, ball):
    change, eps = moved - image, float(ball.eps)
    change = (
        change.clamp(-eps, eps) if ball.norm == "linf" else change * min(1.0, eps / max(float(change.norm()), 1e-12))
    )
    return (image + change).clamp(0, 1)


def drawn(count, draw):
    """Noise as the attack meets it: the draws of each image, in order."""
    return [draw() for _ in range(count)]


def above_zero(like):
    return noise.uniform(like, 0)


@pytest.mark.parametrize("like", [LIKE, "target_map:target=reference,scale=one,match=1e11,preserve=1e6"])
@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_evolution_is_a_natural_evolution_strategy(ball, like):
    network, eps, population = tiny_network(smooth=False), float(ball.eps), 5
    found = perturbed(f"evolution:steps=3,population=5,spread=0.5,rate=0.2,like=({like})", network, ball)
    judged = judge(network, like)
    deviation = 0.5 * eps if ball.norm == "linf" else 0.5 * eps / math.sqrt(432)
    with noise.rows(1, "attack", range(4)):
        draws = drawn(3 * (population - 1), lambda: noise.normal(IMAGES))
    for row, image in enumerate(IMAGES):
        best, centre, first, second = Best(image, judged(image, row)[0]), image, 0.0, 0.0
        for step in range(3):
            noises = [torch.zeros_like(image)]
            noises += [draw[row] for draw in draws[step * (population - 1) : (step + 1) * (population - 1)]]
            results = []
            for z in noises:
                tried = project(centre + deviation * z, image, ball)
                results.append(judged(tried, row))
                best.offer(tried, *results[-1])
            scores = [score for score, kept in results if kept]
            if not scores:
                centre, rewards = best.image, [0.0] * population
            else:
                values = [score if kept else max(scores) for score, kept in results]
                mean = sum(values) / population
                size = math.sqrt(sum((value - mean) ** 2 for value in values) / (population - 1))
                rewards = [(value - mean) / size for value in values]
            gradient = sum(r * z for r, z in zip(rewards, noises, strict=True)) / population
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            rate = 0.2 * eps / (1 - 0.9 ** (step + 1))
            centre = project(centre - rate * first / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8), image, ball)
        best.offer(centre, *judged(centre, row))
        assert_close(found[row], best.image, rtol=1e-7, atol=1e-9)
    assert not torch.equal(found, IMAGES)


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_genetic_breeds_as_the_slow_loop_does(ball):
    network, eps, size, few = tiny_network(smooth=False), float(ball.eps), 5, 3
    found = perturbed(f"genetic:steps=3,population={size},parents={few},mutation=0.3,like=({LIKE})", network, ball)
    judged, unit = judge(network), eps if ball.norm == "linf" else eps / math.sqrt(432)
    with noise.rows(1, "attack", range(4)):
        start = drawn(size, lambda: noise.normal(IMAGES))
        flat = IMAGES[:, 0, 0, 0]
        shape = [
            (above_zero, flat),
            (above_zero, flat),
            (above_zero, IMAGES),
            (above_zero, IMAGES),
            (noise.normal, IMAGES),
        ]
        later = [[draw(like) for draw, like in shape] for _ in range(2 * size)]
    for row, image in enumerate(IMAGES):
        best, alive = Best(image, judged(image, row)[0]), []
        children = [image + 0.5 * unit * draw[row] for draw in start]
        for step in range(3):
            for child in children:
                inside = project(child, image, ball)
                alive.append((inside, *judged(inside, row)))
                best.offer(*alive[-1])
            low, high = (extreme(score for _, score, _ in alive) for extreme in (min, max))
            fitness = []
            for _, score, kept in alive:
                u = (high - score) / (high - low)
                fitness.append(math.exp(u) if kept else -math.exp(-u))
            order = sorted(range(len(alive)), key=lambda i: -fitness[i])[:few]
            alive, fitness = [alive[i] for i in order], [fitness[i] for i in order]
            odds = [math.exp(f) / sum(map(math.exp, fitness)) for f in fitness]
            children = []
            for draws in later[step * size : (step + 1) * size] if step < 2 else []:
                a, b, crossed, mutated, added = (draw[row] for draw in draws)
                chosen = [min(int(sum(u > sum(odds[: i + 1]) for i in range(few))), few - 1) for u in (a, b)]
                mine, other = (odds[i] for i in chosen)
                child = torch.where(crossed < mine / (mine + other), *(alive[i][0] for i in chosen))
                children.append(child + torch.where(mutated < 0.2, 0.3 * unit * added, 0.0))
        assert_close(found[row], best.image, rtol=1e-7, atol=1e-9)
    assert not torch.equal(found, IMAGES)


def test_images_that_change_the_prediction_are_the_worst_of_a_generation():
    from bench_attacks.evolution import standardise
    from bench_attacks.genetic import rate_fitness

    score = torch.tensor([[1.0, 1, 3], [3.0, 1, 2], [0.0, 1, 1]], dtype=torch.float64)
    kept = torch.tensor([[True, True, False], [True, False, False], [False, True, False]])
    third = 1 / math.sqrt(3)
    assert_close(standardise(score, kept).T[0], torch.tensor([-2 * third, third, third], dtype=torch.float64))
    assert (standardise(score, kept).T[1:] == 0).all()
    assert_close(rate_fitness(score, kept)[:, 0].log(), torch.tensor([2 / 3, 0, torch.nan]).double(), equal_nan=True)
    assert rate_fitness(score, kept)[2, 0] == -math.exp(-1)


QUERIES = {"evolution": "steps=3,population=4", "genetic": "steps=3,population=4,parents=2"}


@pytest.mark.parametrize(("name", "count"), [("evolution", 14), ("genetic", 13)])
def test_queries_are_counted_and_ask_for_no_gradient(name, count):
    reports, asked = {}, []
    network = tiny_network(smooth=False)
    network.register_forward_hook(lambda module, inputs, output: asked.append(torch.is_grad_enabled()))
    attack = bench.component("attack", f"{name}:{QUERIES[name]},like=({LIKE})")
    with noise.rows(1, "attack", range(4)):
        attack.perturb(victim(network, report=reports.__setitem__), IMAGES, TARGETS, BALLS[0])
    assert reports["queries"].tolist() == [count] * 4
    assert bench.component("metric", "attack_queries")(attack_reports=reports).tolist() == [count] * 4
    random = bench.Victim(network, bench.component("explainer", "random_map"))
    assert attack.perturb(random, IMAGES, TARGETS, BALLS[0]).shape == IMAGES.shape


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_more_generations_leave_less_and_keep_the_prediction(name, ball):
    network = tiny_network(smooth=False)
    score = bench.component("attack", LIKE).make_loss(victim(network), IMAGES, TARGETS)
    few, many = (perturbed(f"{name}:steps={steps},population=10,like=({LIKE})", network, ball) for steps in (1, 12))
    with torch.no_grad():
        assert (score(many) <= score(few)).all() and score(many).mean() < score(few).mean() < score(IMAGES).mean()
        assert torch.equal(network(many).argmax(1), network(IMAGES).argmax(1))


def test_what_a_search_cannot_do_is_said():
    with pytest.raises(bench.BadValue, match="attack genetic: parents is 9, but a generation has 4 images; take as"):
        bench.component("attack", "genetic:population=4,parents=9")
    with pytest.raises(bench.BadValue, match=r"attack sign_noise has no objective to choose by; name another with"):
        perturbed("genetic:like=(sign_noise)", tiny_network(True), BALLS[0])
    undefined = bench.component("metric", "attack_queries")(attack_reports={})
    assert undefined.reason == "the attack counts no queries; take evolution or genetic"
