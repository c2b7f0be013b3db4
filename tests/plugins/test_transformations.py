"""Balls of rotations, translations and colours, beside scipy, torchvision, colorsys and searches by hand in float64."""

from __future__ import annotations

import colorsys
import dataclasses
import math
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources

import numpy as np
import pytest
import scipy.ndimage
import torch
import torchvision.transforms.functional as TF
from bench_attacks.parameter_descent import ParameterDescent
from bench_attacks.parameters import Worst
from torch.testing import assert_close
from torchvision.transforms import InterpolationMode

import bench
from bench import noise
from bench.boards.protocol import parse_protocol
from bench.engine.cells import list_cells
from bench.engine.checks import check_attack, check_gradient, flag_attack
from bench.engine.selection import select
from bench.gradients import softened
from bench.testing import tiny_images, tiny_network

IMAGES, TARGETS = tiny_images(4)
BALLS = {
    "rotation": bench.Ball("rotation", Fraction(30)),
    "translation": bench.Ball("translation", Fraction(3)),
    "colour": bench.Ball("colour", Fraction(1, 2)),
}
EXACT = {"atol": 1e-6, "rtol": 0}


def draw(ball, images=IMAGES, name="draw"):
    with noise.rows(0, name, range(len(images))):
        return ball.sample(images)


def resampled(image, trace):
    """An image (C, H, W) with the values at trace(row, column), by scipy."""
    places = torch.tensor(
        [[trace(row, column) for column in range(image.shape[2])] for row in range(image.shape[1])], dtype=torch.float64
    ).movedim(-1, 0)
    values = [scipy.ndimage.map_coordinates(part.numpy(), places, order=1, mode="grid-constant") for part in image]
    return torch.from_numpy(np.stack(values))


def turned(image, degrees):
    angle, middle = math.radians(degrees), (image.shape[1] - 1) / 2
    sine, cosine = math.sin(angle), math.cos(angle)

    def trace(row, column):
        down, right = row - middle, column - middle
        return middle + cosine * down + sine * right, middle + cosine * right - sine * down

    return resampled(image, trace)


def test_rotations_are_those_of_torchvision_and_of_scipy():
    parameters = draw(BALLS["rotation"])
    found = BALLS["rotation"].apply(parameters, IMAGES)
    for image, angle, result in zip(IMAGES, parameters[:, 0].tolist(), found, strict=True):
        assert_close(result, TF.rotate(image, angle, InterpolationMode.BILINEAR), **EXACT)
        assert_close(result, turned(image, angle), **EXACT)
    wide = torch.rand(1, 2, 5, 8, dtype=torch.float64)
    assert_close(
        BALLS["rotation"].apply(torch.full((1, 1), 17.0, dtype=torch.float64), wide),
        TF.rotate(wide, 17, InterpolationMode.BILINEAR),
        **EXACT,
    )


def test_translations_are_those_of_scipy():
    parameters = draw(BALLS["translation"])
    for image, (down, right), result in zip(
        IMAGES, parameters.tolist(), BALLS["translation"].apply(parameters, IMAGES), strict=True
    ):
        assert_close(result, resampled(image, lambda row, column, d=down, r=right: (row - d, column - r)), **EXACT)


def test_colours_are_those_of_colorsys():
    images = torch.cat([IMAGES[:, :, :4, :4], IMAGES[:, :1, 4:8, :4].expand(-1, 3, -1, -1)], 2)  # half of it grey
    parameters = torch.tensor([[0.3, -0.4], [-0.1, 0.9], [0.45, 0.0], [0.0, -1.0]], dtype=torch.float64)
    found = BALLS["colour"].apply(parameters, images)
    for image, (turn, share), result in zip(images, parameters.tolist(), found, strict=True):
        for pixel, changed in zip(image.flatten(1).T.tolist(), result.flatten(1).T, strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
            expected = colorsys.hsv_to_rgb((hue + turn) % 1, min(1, saturation * (1 + share)), value)
            assert_close(changed, torch.tensor(expected, dtype=torch.float64), **EXACT)
    assert_close(found[:, :, 4:], images[:, :, 4:], **EXACT)


def test_quarter_turns_whole_shifts_and_no_change_are_exact():
    images = IMAGES.float()
    for ball in BALLS.values():
        assert torch.equal(ball.apply(ball.center(images), images), images)
    quarter = bench.Ball("rotation", Fraction(90))
    assert torch.equal(quarter.apply(torch.full((4, 1), 90.0), images), images.rot90(1, (2, 3)))
    moved = BALLS["translation"].apply(torch.tensor([2.0, -3.0]).expand(4, 2), images)
    assert torch.equal(moved[:, :, 2:, :-3], images[:, :, :-2, 3:])
    assert not moved[:, :, :2].any() and not moved[:, :, :, -3:].any()


@pytest.mark.parametrize("norm", BALLS)
def test_images_have_a_gradient_by_parameters(norm):
    ball, start = BALLS[norm], draw(BALLS[norm])
    weights = torch.linspace(-1, 1, IMAGES[0].numel(), dtype=torch.float64).view_as(IMAGES[0])

    def score(parameters):
        return (ball.apply(parameters, IMAGES) * weights).sum((1, 2, 3))

    leaf = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(leaf).sum(), leaf)
    step = 1e-5 * torch.eye(start.shape[1], dtype=torch.float64)
    by_hand = torch.stack([(score(start + way) - score(start - way)) / 2e-5 for way in step], 1)
    assert_close(gradient, by_hand, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm", BALLS)
def test_draws_fill_the_ball_and_projections_stay_in_it(norm):
    ball, many = BALLS[norm], torch.rand(2000, 3, 2, 2)
    drawn, eps = draw(ball, many), float(ball.eps)
    assert drawn.abs().max() <= eps
    assert_close(drawn.std(0), torch.full(drawn.shape[1:], eps / 3**0.5), atol=0, rtol=0.05)
    assert torch.equal(ball.project(3 * drawn, many), (3 * drawn).clamp(-eps, eps))
    assert torch.equal(dataclasses.replace(ball, eps=Fraction(0)).sample(many), ball.center(many))
    half = many[:4].bfloat16()
    assert ball.apply(draw(ball, half), half).dtype == torch.bfloat16 and ball.center(half).dtype == torch.float32


def victim(network):
    return bench.Victim(network, bench.component("explainer", "gradient"))


def attacked(text, network, ball):
    with noise.rows(1, "attack", range(len(IMAGES))):
        return bench.component("attack", text).perturb(victim(network), IMAGES, TARGETS, ball)


@torch.no_grad()
def look_by_hand(network, angles):
    """The overlap of the turned clean map and the map of the turned image, and which images are kept, by scipy."""
    maps = victim(network).maps
    overlaps, kept = [], []
    for image, target, angle in zip(IMAGES, TARGETS, angles[:, 0].tolist(), strict=True):
        moved, inside = turned(image, angle)[None], turned(torch.ones_like(image[:1]), angle) > 1 - 1e-9
        sides = turned(maps(image[None], target[None]), angle), maps(moved, target[None])
        tops = [set((side * inside).flatten().topk(20).indices.tolist()) for side in sides]
        overlaps.append(len(tops[0] & tops[1]) / 20)
        kept.append(bool(network(moved).argmax() == network(image[None]).argmax()))
    return torch.tensor(overlaps), torch.tensor(kept)


@pytest.mark.parametrize("text", ["grid_search:values=6", "worst_of_k:k=4"])
def test_searches_find_the_worst_of_what_they_try(text):
    network, ball = tiny_network(smooth=True), BALLS["rotation"]
    tried = [torch.full((4, 1), angle, dtype=torch.float64) for angle in (-30, -18, -6, 6, 18, 30)]
    if text.startswith("worst"):
        with noise.rows(1, "attack", range(4)):
            tried = [ball.sample(IMAGES) for _ in range(4)]
    least = torch.ones(4)
    for angles in tried:
        overlaps, kept = look_by_hand(network, angles)
        least = torch.where(kept, torch.minimum(least, overlaps), least)
    found = attacked(text, network, ball)
    left, kept = look_by_hand(network, found)
    assert kept.all() and found.any(1).sum() > 2
    assert_close(left, least)


@pytest.mark.parametrize("norm", BALLS)
def test_the_descent_follows_the_gradient_by_parameters(norm):
    network, ball = tiny_network(smooth=True), BALLS[norm]
    worst = Worst(victim(network), IMAGES, TARGETS, ball, "cosine", "test")
    start = draw(ball)
    attack = ParameterDescent(against="cosine")
    found = attack.gradient(worst, start)

    def value(parameters):
        with torch.no_grad(), softened(20.0):
            return attack.score(worst, parameters)

    step = 1e-5 * torch.eye(start.shape[1], dtype=torch.float64)
    by_hand = torch.stack([(value(start + way) - value(start - way)) / 2e-5 for way in step], 1)
    assert found.any(1).all()
    assert_close(found, by_hand, atol=1e-6, rtol=1e-3)


def test_the_descent_leaves_less_than_its_starts():
    network, ball = tiny_network(smooth=True), BALLS["rotation"]
    left = []
    for text in ("worst_of_k:k=1,against=cosine", "parameter_descent:steps=8,against=cosine"):
        worst = Worst(victim(network), IMAGES, TARGETS, ball, "cosine", "test")
        worst.offer(attacked(text, network, ball))
        left.append(worst.loss)
    assert (left[1] <= left[0] + 1e-9).all() and left[1].mean() < left[0].mean() - 1e-4


@pytest.mark.parametrize("norm", BALLS)
def test_the_gradient_by_parameters_passes_its_check_and_a_wrong_one_does_not(norm):
    @dataclass(frozen=True)
    class Halved(ParameterDescent):
        def score(self, worst, points):
            return super().score(worst, 0.5 * points + 0.5 * points.detach())

    given = (victim(tiny_network(smooth=True)), IMAGES, TARGETS, 0, range(4))
    errors = [check_gradient(given[0], attack, BALLS[norm], *given[1:]) for attack in (ParameterDescent(), Halved())]
    assert float(errors[0].median()) < 1e-3 and float(errors[1].median()) == pytest.approx(1 / 3, rel=1e-2)


def check(attack, norm, explainer="gradient"):
    """The figures of the checks of an attack in the ball of a transformation, and their flags."""
    ball, target = BALLS[norm], dataclasses.replace(victim(tiny_network(smooth=True)), explainer=explainer)
    with noise.rows(0, "attack_run", range(4)):
        points = attack.perturb(target, IMAGES, TARGETS, ball)
    with noise.rows(0, "attack_checks", range(4)):
        figures = check_attack(target, attack, ball, 0, IMAGES, TARGETS, points, range(4))
    return points, figures, list(flag_attack(figures, 0.1))


@pytest.mark.parametrize(
    "norm", ["rotation", *(pytest.param(norm, marks=pytest.mark.slow) for norm in BALLS if norm != "rotation")]
)
def test_a_descent_that_stands_still_is_beaten_by_a_blind_search(norm):
    @dataclass(frozen=True)
    class Still(ParameterDescent):
        def perturb(self, victim, images, targets, ball):
            return ball.center(images)

    gradient = bench.component("explainer", "gradient")
    _, figures, flags = check(Still(), norm, gradient)
    assert figures["left"].tolist() == [1] * 4 and "wide" not in figures
    assert any(flag.startswith("attack beaten: a blind search leaves 0.") for flag in flags)
    points, figures, flags = check(ParameterDescent(), norm, gradient)
    if norm == "rotation":
        assert_close(figures["left"].float(), look_by_hand(tiny_network(smooth=True), points)[0])
    assert not any(flag.startswith("attack beaten") for flag in flags)


def test_a_map_that_moves_with_its_image_is_no_sign_of_a_blocked_attack():
    _, figures, flags = check(ParameterDescent(), "translation", Brightness())
    assert figures["left"].tolist() == pytest.approx([1] * 4) and figures["blind"].tolist() == pytest.approx([1] * 4)
    assert not any(flag.startswith(("attack blocked", "attack beaten")) for flag in flags)


def test_a_move_that_leaves_no_map_is_passed_over():
    network, ball = tiny_network(smooth=True), bench.Ball("translation", Fraction(12))
    worst = Worst(victim(network), IMAGES, TARGETS, ball, "topk_overlap", "test")
    worst.prediction = network(torch.zeros_like(IMAGES)).argmax(1)  # that of an image that is all black
    worst.offer(torch.full((4, 2), 12.0, dtype=torch.float64))
    assert not worst.parameters.any()


@dataclass(frozen=True)
class Brightness(bench.Explainer):
    """The sum over channels: it turns and moves with its image."""

    name = "brightness"
    differentiable = False

    def attribute(self, network, images, targets):
        return images.sum(1, keepdim=True)


@dataclass(frozen=True)
class Pattern(bench.Explainer):
    """The same map for every image."""

    name = "pattern"
    differentiable = False

    def attribute(self, network, images, targets):
        places = torch.arange(images[0, 0].numel()).view(1, 1, *images.shape[2:])
        return (1 + places * 31 % 101).to(images).expand(len(images), -1, -1, -1)


@dataclass(frozen=True)
class Fixed(bench.Attack):
    """The same parameters for every image."""

    name = "fixed"
    first: float = bench.param(0.0, "the first parameter")
    second: float = bench.param(0.0, "the others")
    spaces = ("parameters",)

    def perturb(self, victim, images, targets, ball):
        points = ball.center(images) + self.second
        points[:, 0] = self.first
        return points


def evaluate(explainer, attack, norm, eps, *metrics, images=None):
    images = IMAGES.float() if images is None else images
    return bench.evaluate(
        tiny_network(smooth=True, dtype=torch.float32, shape=images.shape[1:]),
        images,
        explainers=explainer,
        attacks=attack,
        norm=norm,
        eps=eps,
        metrics=metrics,
        surrogates="gradient",
        device="cpu",
    )


SIMILARITIES = ("topk_overlap", "cosine", "spearman", "topk_overlap_elements", "l1_distance")
SAME = pytest.approx([1, 1, 1, 1, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("attack", "norm", "eps"), [(Fixed(90.0), "rotation", 90), (Fixed(2.0, -3.0), "translation", 3)]
)
def test_a_map_that_moves_with_its_image_is_the_same_and_a_fixed_one_is_not(attack, norm, eps):
    assert [record.value for record in evaluate(Brightness(), attack, norm, eps, *SIMILARITIES)] == SAME
    fixed = [record.value for record in evaluate(Pattern(), attack, norm, eps, *SIMILARITIES)]
    assert max(fixed[:3]) < 0.999 and fixed[4] > 0.05


def test_turning_between_pixels_costs_a_map_that_turns_nothing():
    # Clean maps move forward, so that the same interpolation stands on both sides.
    (record,) = evaluate(Brightness(), Fixed(17.0), "rotation", 30, "cosine")
    assert record.value == pytest.approx(1, abs=1e-6)


def test_examples_compare_maps_as_metrics_do():
    network = tiny_network(smooth=True, dtype=torch.float32)
    options = {"attack": Fixed(90.0), "norm": "rotation", "eps": 90, "device": "cpu"}
    found = bench.explain(network, IMAGES.float(), [Brightness(), Pattern()], **options)
    overlaps = [example.overlap for example in found.examples]
    assert overlaps[::2] == [1] * 4 and max(overlaps[1::2]) < 0.5
    assert torch.equal(found.attacked_images["brightness"], IMAGES.float().rot90(1, (2, 3)))


def test_colours_leave_maps_where_they_are():
    (record,) = evaluate(Pattern(), Fixed(0.2, 0.3), "colour", "1/2", "cosine")
    assert record.value == pytest.approx(1, abs=1e-6)


def test_the_harness_keeps_parameters_in_the_ball():
    beyond, limit = (
        evaluate(Brightness(), Fixed(1e6, -1e6), "translation", 2, "perturbation")[0].value
        if far
        else evaluate(Brightness(), Fixed(2.0, -2.0), "translation", 2, "perturbation")[0].value
        for far in (True, False)
    )
    assert beyond == limit > 0


@dataclass(frozen=True)
class Misshapen(bench.Attack):
    """Returns images in a ball of parameters."""

    name = "misshapen"
    spaces = ("parameters",)

    def perturb(self, victim, images, targets, ball):
        return images


def test_parameters_have_their_form():
    with pytest.raises(bench.CellFailed, match=r"in rotation:30, return parameters \(4, 1\)"):
        evaluate(Brightness(), Misshapen(), "rotation", 30, "cosine")


def test_a_colour_needs_three_channels():
    with pytest.raises(bench.BadValue, match="a ball of colour needs images of 3 channels, and these have 1; use"):
        BALLS["colour"].apply(torch.zeros(1, 2), torch.rand(1, 1, 4, 4))


@pytest.mark.parametrize(
    ("norm", "eps", "words"),
    [
        (
            "rotation",
            Fraction(8, 255),
            "eps 8/255 is impossible in rotation: it is in degrees, at most 180; write a whole",
        ),
        ("rotation", 181, "eps 181 is impossible in rotation: it is in degrees"),
        (
            "translation",
            Fraction(1, 2),
            "eps 1/2 is impossible in translation: it is a number of pixels; write a whole",
        ),
        ("colour", 2, "eps 2 is impossible in colour: it is a share of all hues and of the saturation, at most 1"),
    ],
)
def test_budgets_of_transformations_are_in_their_units(norm, eps, words):
    with pytest.raises(bench.BadValue, match=words):
        bench.Ball(norm, Fraction(eps))


def refusal(catalog, attack, norm, eps, metric, **axes):
    chosen = {"attack": [attack], "norm": [norm], "eps": [eps], **axes}
    (case,) = select(catalog, chosen, reference=False).cases
    return list_cells(catalog, [case], [catalog.read("metric", metric)])[0].refusal


ABLE = "use grid_search, no_attack, parameter_descent, uniform_noise, worst_of_k"
BESIDE = "beside maps, and in rotation:30 pixels move; use a metric of clean and attacked maps alone"


@pytest.mark.parametrize(
    ("attack", "norm", "eps", "metric", "words"),
    [
        (
            "topk",
            "rotation",
            "30",
            "cosine",
            f"attack topk: it does not return parameters, which rotation:30 takes; {ABLE}",
        ),
        (
            "uniform_noise:candidates=2",
            "colour",
            "1/4",
            "cosine",
            "it does not return parameters, which colour:1/4 takes",
        ),
        ("worst_of_k", "linf", "8/255", "cosine", "it does not return images, which linf:8/255 takes; use "),
        ("worst_of_k", "rotation", "30", "adv_insertion", f"metric adv_insertion: it needs images {BESIDE}"),
        ("worst_of_k", "rotation", "30", "joint_success", f"it needs attacked_images and explain {BESIDE}"),
        ("worst_of_k", "rotation", "30", "under_attack", f"it needs attacked_images and images {BESIDE}"),
    ],
)
def test_what_has_no_meaning_in_a_ball_is_refused(catalog, attack, norm, eps, metric, words):
    assert words in refusal(catalog, attack, norm, eps, metric)


def test_what_keeps_its_meaning_is_not(catalog):
    assert refusal(catalog, "worst_of_k", "colour", "1/4", "adv_insertion") is None
    assert refusal(catalog, "worst_of_k", "rotation", "30", "mask_auc") is None  # of clean maps alone
    assert refusal(catalog, "topk", "linf", "8/255", "adv_insertion") is None
    words = refusal(catalog, "worst_of_k", "rotation", "30", "topk_overlap_bound", explainer=["votes"])
    assert words == (
        "metric topk_overlap_bound: there is no certificate in the ball rotation:30; use one of the norm linf, l2 or l0"
    )


def test_the_descent_needs_a_surrogate_with_a_gradient(catalog):
    words = refusal(catalog, "parameter_descent", "rotation", "30", "cosine", surrogate=["random_map"])
    assert (
        words
        == "attack parameter_descent: it follows a gradient, and that of random_map is zero; choose another --surrogate"
    )


def test_an_attack_on_images_takes_no_other_ball():
    with pytest.raises(
        bench.BadValue, match="attack topk returns images, and rotation:30 takes parameters; use another"
    ):
        attacked("topk", tiny_network(smooth=True), BALLS["rotation"])


def test_a_board_may_have_rows_under_a_transformation(catalog):
    text = resources.files("bench.boards").joinpath("quick.toml").read_text()
    row = '[[row]]\nnorm = "rotation"\neps = 30\nattack = ["worst_of_k", "uniform_noise"]\n'
    with pytest.raises(
        bench.BadValue, match=r"x: score.ball is missing: budgets in linf and rotation do not compare; "
    ):
        parse_protocol(f"{text}{row}".encode(), "x")
    scored = f"{text}{row}".replace("[score]", '[score]\nball = "linf:8/255"')
    protocol = parse_protocol(scored.encode(), "x")
    assert protocol.choices("ball") == ["linf:8/255", "rotation:30"]
    cases = select(catalog, {}, protocol=protocol).cases
    assert [f"{case.attack} {case.ball}" for case in cases] == [
        *("topk linf:8/255", "worst_of_k rotation:30", "uniform_noise rotation:30")
    ]
    with pytest.raises(bench.BadValue, match="x: eps 1/2 is impossible in rotation: it is in degrees, at most 180; "):
        parse_protocol(scored.replace("eps = 30", 'eps = "1/2"').encode(), "x")


def test_each_attack_gives_a_record(tiny_run):
    attacks = ["no_attack", "uniform_noise", "worst_of_k:k=2", "grid_search:values=2", "parameter_descent:steps=1"]
    options = {"samples": ["4"], "reference": False, "norm": ["translation"], "eps": ["2"]}
    records = tiny_run(attack=attacks, metric=["cosine"], **options).records.values()
    found = {record.axes["attack"]: record.value for record in records}
    assert list(found) == attacks and all(record.axes["ball"] == "translation:2" for record in records)
    assert found["no_attack"] == pytest.approx(1) and all(0 < found[attack] < 1 for attack in attacks[1:])
    assert [set(record.objective) for record in records] == [set()] * 4 + [{"before", "after", "success"}]
