"""The standard attack, its objectives and its steps."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import pytest
import torch
from bench_attacks import search, standard
from bench_attacks.descent import Best, Seen, walk
from bench_attacks.objectives import CenterShift, Cosine, Overlap, RankCorrelation, hinge, log_ratios
from bench_attacks.steps import Adaptive, checkpoints, momentum, steepest
from bench_metrics.topk_overlap import topk_overlap
from scipy.stats import spearmanr
from torch.testing import assert_close

import bench
from bench import noise
from bench.maps import top_pixels
from bench.testing import tiny_images, tiny_network

LINF, L2 = bench.Ball("linf", Fraction(8, 255)), bench.Ball("l2", Fraction(1, 2))
IMAGES, TARGETS = tiny_images(4)


def attacked(text, network, explainer="gradient", ball=LINF, images=IMAGES, targets=TARGETS, rows=None, **given):
    victim = bench.Victim(network, bench.component("explainer", explainer), **given)
    with noise.rows(0, "attack_run", range(len(images)) if rows is None else rows):
        return bench.component("attack", text).perturb(victim, images, targets, ball)


def overlap(network, moved, explainer="gradient", names=("clean_attributions", "attacked_attributions")):
    """The overlap as the harness measures it: the noise of clean and of attacked maps is not the attack's."""
    chosen = bench.component("explainer", explainer)
    with torch.no_grad():
        maps = []
        for images, name in zip((IMAGES, moved), names, strict=True):
            with noise.rows(0, name, range(len(images))):
                maps.append(chosen.maps(network, images, TARGETS))
    return topk_overlap(*maps, k=20)


def maps_like(seed, ties=False):
    maps = torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    maps = (maps * 4).round() if ties else maps
    return maps / maps.sum((1, 2), keepdim=True)


def test_ratios_compare_the_weakest_pixels_that_count_with_the_strongest_of_the_others():
    clean, moved = maps_like(0), maps_like(1)
    top = top_pixels(clean, 5)
    for row, ratios in enumerate(log_ratios(moved, top)):
        mine = sorted(moved[row][top[row]].tolist())
        others = sorted(moved[row][~top[row]].tolist(), reverse=True)
        expected = [math.log(a / b) for a, b in zip(mine, others, strict=False)]
        assert_close(ratios, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)
        assert float(hinge(ratios[None], 0.3)) == pytest.approx(sum(max(0, r + 0.3) for r in expected) / 5)


def test_as_many_ratios_are_positive_as_pixels_stay():
    for seed in range(20):
        clean, moved = maps_like(seed), maps_like(seed + 100)
        goal = Overlap.of(clean, 5, "")
        assert_close((goal.loss(moved) * 5).floor() / 5, topk_overlap(clean, moved, 5), rtol=0, atol=1e-9)


def test_equal_pixels_do_not_stay():
    clean = maps_like(0)
    flat = torch.full_like(clean, 1 / 42)
    assert Overlap.of(clean, 5, "").loss(flat).max() < 1 / 5
    assert topk_overlap(clean, maps_like(3, ties=True), 5).tolist() >= [0.0] * 3


def test_other_goals_are_the_metrics_that_they_are_named_after():
    clean, moved = maps_like(0), maps_like(1)
    for row in range(3):
        flat, other = clean[row].flatten(), moved[row].flatten()
        assert float(RankCorrelation.of(clean).loss(moved)[row]) == pytest.approx(spearmanr(flat, other).statistic)
        cosine = float(flat @ other / flat.norm() / other.norm())
        assert float(Cosine.of(clean).loss(moved)[row]) == pytest.approx(cosine)
        places = torch.cartesian_prod(torch.arange(6.0), torch.arange(7.0)).double()
        shift = (places * (other - flat)[:, None]).sum(0)
        assert float(CenterShift.of(clean).loss(moved)[row]) == pytest.approx(-float(shift @ shift))


def slow_adaptive(function, start, eps, steps):
    """Croce and Hein (ICML 2020), Alg. 1, for one image as a list of numbers and a function to lower."""

    def slope(point):
        leaf = point.clone().requires_grad_()
        (found,) = torch.autograd.grad(function(leaf), leaf)
        return found

    def inside(point):
        return torch.minimum(torch.maximum(point, start - eps), start + eps).clamp(0, 1)

    marks = [math.ceil(Fraction(place, 100) * steps) for place in (22, 41, 57, 70, 80, 87, 93, 99)]
    length, before, point = 2 * eps, None, start
    best, least, last = start, float(function(start)), float(function(start))
    falls, since, marked, halved = 0, 0, least, True
    visited = []
    for number in range(steps):
        value = float(function(point))
        falls += value < last
        last = value
        if value < least:
            best, least = point, value
        if number in marks:
            stalls = falls < 0.75 * (number - since) or (not halved and least >= marked)
            if stalls:
                length, point, before = length / 2, best, best
            halved, marked, since, falls = stalls, least, number, 0
        ahead = inside(point - length * slope(point).sign())
        moved = ahead if before is None else inside(point + 0.75 * (ahead - point) + 0.25 * (point - before))
        before, point = point, moved
        visited.append(point)
    return visited


def test_adaptive_steps_are_those_of_the_paper_for_each_image():
    matrix = torch.randn(12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    images = IMAGES[:3, :, :2, :2].double()

    def function(flat):
        return ((flat - 0.4) @ matrix).square().sum(-1) + (9 * flat).sin().sum(-1)

    steps = 30
    expected = [slow_adaptive(function, image.flatten(), 0.2, steps) for image in images]
    ball = bench.Ball("linf", Fraction(1, 5))
    step, moved = Adaptive(ball, images, steps), images
    for number in range(steps):
        leaf = moved.clone().requires_grad_()
        score = function(leaf.flatten(1))
        (gradient,) = torch.autograd.grad(score.sum(), leaf)
        moved = ball.project(step(moved, gradient, score.detach()), images)
        assert_close(moved.flatten(1), torch.stack([row[number] for row in expected]), rtol=0, atol=1e-9)
    assert step.length.flatten().tolist() != [2 / 5] * 3  # some image has halved its step


def test_checkpoints_are_those_of_the_paper():
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_momentum_sums_unit_gradients_and_shortens_its_steps():
    image = torch.full((1, 1, 1, 2), 0.5, dtype=torch.float64)
    step = momentum(LINF, 4, 1.0, 0.5)
    gradients = [[3.0, 1.0], [-1.0, 1.0], [-1.0, 0.0]]
    signs = [[1, 1], [-1, 1], [-1, 1]]  # of .75, .25; .375-.5, .125+.5; -.0625-1, .3125
    for number, (gradient, sign) in enumerate(zip(gradients, signs, strict=True)):
        moved = step(image, torch.tensor(gradient, dtype=torch.float64).view(1, 1, 1, 2), torch.zeros(1))
        length = 8 / 255 * (1 + math.cos(math.pi * number / 4)) / 2
        assert_close((image - moved).flatten() / length, torch.tensor(sign, dtype=torch.float64))


@pytest.mark.parametrize(("smooth", "ball"), [(True, LINF), (False, L2)], ids=["softplus", "relu"])
def test_it_leaves_less_than_topk_of_as_many_steps(smooth, ball):
    network = tiny_network(smooth)
    left = overlap(network, attacked("standard:quick", network, ball=ball)).mean()
    assert left < overlap(network, attacked("topk:steps=35", network, ball=ball)).mean() - 0.02


def test_an_image_alone_meets_the_same_attack():
    network, explainer = tiny_network(True), "smoothgrad:samples=3"  # the contracts take one that draws nothing
    together = attacked("standard:quick", network, explainer)
    alone = attacked("standard:quick", network, explainer, images=IMAGES[3:], targets=TARGETS[3:], rows=[3])
    assert_close(alone, together[3:], rtol=0, atol=1e-9)


def test_every_member_runs_and_reports_what_it_leaves_and_costs():
    network, found = tiny_network(True), {}
    attacked("standard", network, report=found.__setitem__, sources=(tiny_network(True),))
    left = [values for name, values in found.items() if name.startswith("left after")]
    passes = [values for name, values in found.items() if name.startswith("passes of")]
    assert len(left) == len(passes) == len(standard.FULL)
    for before, after in itertools.pairwise(left):
        assert (after <= before).all()
    for member, cost, before in zip(standard.FULL, passes, [None, *left], strict=False):
        goes_on = before is None or before >= 1 / 20
        # Single precision gives a gradient everywhere, and the maps are those of the gradient already.
        idle = member.name in ("double precision", "gradient")
        assert ((cost > 0) == (torch.as_tensor(goes_on).expand(4) & (not idle))).all(), member


@pytest.mark.parametrize("member", [m for m in standard.FULL if m.name != "double precision"], ids=lambda m: m.name)
def test_members_look_only_where_something_is_left(member):
    victim = bench.Victim(
        tiny_network(True), bench.component("explainer", "smoothgrad:samples=2"), sources=(tiny_network(False),)
    )
    with noise.rows(0, "attack_run", range(4)):
        looking = search.Search(victim, IMAGES, TARGETS, lambda maps: Overlap.of(maps, 20, ""))
        looking.start(LINF)
        looking.best.loss = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
        looking.run(dataclasses.replace(member, steps=2), LINF)
    moved = (looking.best.images != IMAGES).flatten(1).any(1)
    assert not moved[[0, 3]].any() and (moved[[1, 2]].all() or isinstance(member, search.Queries))


def test_a_walk_ends_where_nothing_is_left_to_gain():
    calls = []

    def aim(moved):
        calls.append(1)
        score = moved.mean((1, 2, 3))
        return Seen(score, torch.tensor([[1.0, 0.0]]).repeat(len(moved), 1), score.detach())

    best = Best.of(IMAGES, aim)
    best.is_open = lambda loss: loss > IMAGES.mean((1, 2, 3)) - 0.01
    walk(None, best, LINF, IMAGES, aim, IMAGES, 100, steepest(LINF, 0.5), None)
    assert 10 <= len(calls) <= 12
    assert (best.loss < IMAGES.mean((1, 2, 3)) - 0.01).all() and (best.loss > IMAGES.mean((1, 2, 3)) - 0.02).all()


def test_the_larger_size_takes_twice_the_steps_and_leaves_no_more():
    assert [member.steps for member in standard.MEMBERS["plus"]] == [2 * member.steps for member in standard.FULL]
    assert bench.component("attack", "standard").doubled == bench.component("attack", "standard:plus")


def test_a_large_budget_leaves_chance():
    network = tiny_network(True)
    moved = attacked("standard", network, ball=bench.Ball("linf", Fraction(64, 255)))
    assert overlap(network, moved).mean() <= 20 / IMAGES[0, 0].numel()


class Scaled(torch.nn.Module):
    def __init__(self, inner, factor):
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, images):
        return self.inner(images) * self.factor


def test_logits_too_small_for_single_precision_are_attacked_in_double(monkeypatch):
    honest = tiny_network(True, torch.float32)
    images, clean, left = IMAGES.float(), bench.component("explainer", "gradient"), []
    walks = standard.MEMBERS["quick"]
    for members in (walks[:-1], walks):
        monkeypatch.setitem(standard.MEMBERS, "quick", members)
        moved = attacked("standard:quick", Scaled(honest, 1e-37), images=images)
        with torch.no_grad():
            maps = [clean.maps(honest, each, TARGETS) for each in (images, moved)]
        left.append(float(topk_overlap(*maps, 20).mean()))
    assert left[0] > 0.8 and left[1] < 0.6


@dataclasses.dataclass(frozen=True)
class Sharpened(bench.Explainer):
    """A power of the map of the gradient, in whose mass one pixel counts and the others do not."""

    name = "sharpened"
    differentiable = True
    power: float = bench.param(8.0)

    def attribute(self, network, images, targets):
        size = bench.gradients.input_gradient(network, images, targets).abs().sum(1, keepdim=True)
        return (size / size.detach().amax((1, 2, 3), keepdim=True)) ** self.power


def test_a_power_of_the_map_does_not_help():
    network, left = tiny_network(True), []
    for power in (1.0, 8.0):
        victim = bench.Victim(network, Sharpened(power=power))
        with noise.rows(0, "attack_run", range(4)):
            moved = bench.component("attack", "standard:quick").perturb(victim, IMAGES, TARGETS, LINF)
        left.append(float(overlap(network, moved).mean()))
    assert left[1] < left[0] + 0.1


def test_who_knows_the_noise_leaves_less():
    network, explainer = tiny_network(True), "smoothgrad:samples=2,noise=0.3"
    fresh, known = (attacked(text, network, explainer) for text in ("standard:quick", "standard:quick,noise=known"))
    assert overlap(network, known, explainer).mean() < overlap(network, fresh, explainer).mean() - 0.05
    # and it is the noise that counts
    names = ("clean_attributions", "something else")
    assert overlap(network, known, explainer, names).mean() > overlap(network, known, explainer).mean() + 0.05


def test_only_defenses_that_train_lend_a_reference_network():
    attack, find = bench.component("attack", "standard"), lambda text: bench.component("defense", text)
    assert attack.sources(find("l2_cosd")) == (find("ce"),)
    assert attack.sources(find("ce")) == ()
    assert bench.component("attack", "standard:quick").sources(find("l2_cosd")) == ()


@pytest.mark.parametrize("name", ["topk", "mass_center"])
def test_the_papers_form_is_the_default(name):
    find = bench.component
    assert find("attack", f"{name}:ghorbani2019") == find("attack", name)


def test_the_hinge_leaves_less_overlap_than_the_mass():
    network = tiny_network(True)
    left = [
        overlap(network, attacked(f"topk:steps=30,{text}", network)).mean()
        for text in ("objective=mass", "objective=hinge", "objective=hinge,optimiser=adaptive")
    ]
    assert left[1] < left[0] and left[2] < left[0]


def test_queries_alone_lower_the_overlap():
    network = tiny_network(True)
    victim = bench.Victim(network, bench.component("explainer", "gradient"))
    for kind, steps in (("squares", 60), ("evolution", 40)):
        with noise.rows(0, "attack_run", range(4)):
            looking = search.Search(victim, IMAGES, TARGETS, lambda maps: Overlap.of(maps, 20, ""))
            looking.start(LINF)
            looking.run(search.Queries(kind, steps, kind), LINF)
        assert (looking.best.loss <= 1.001).all() and looking.best.loss.mean() < 0.9, kind
