"""Certificates of maps beside slow forms, and attacks that may not beat them; in float64."""

from __future__ import annotations

import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bench_metrics.certified_pixels import least_chances
from bench_metrics.cosine_bound import share_in_common
from bench_metrics.smoothing import l2_radius
from bench_metrics.topk_overlap_bound import certified_overlap
from scipy import stats
from torch.testing import assert_close

import bench
from bench import noise
from bench.maps import least_overlap
from bench.testing import tiny_images, tiny_network

SHAPE = (3, 4, 4)
IMAGES, TARGETS = tiny_images(2, SHAPE)
NETWORK = tiny_network(True, shape=SHAPE)


def explain(explainer, images, name="x"):
    with torch.no_grad(), noise.rows(0, name, range(len(images))):
        return explainer.attribute(NETWORK, images, TARGETS)


def test_votes_beside_a_slow_loop():
    found = explain(bench.component("explainer", "votes:samples=5,noise=0.2,share=0.25"), IMAGES)
    for i in range(2):
        votes = torch.zeros(16, dtype=torch.float64)
        for draw in range(5):
            with noise.rows(0, "x", [i]), noise.repeat(range(draw, draw + 1)):
                image = IMAGES[i : i + 1] + 0.2 * noise.normal(IMAGES[i : i + 1])
            image.requires_grad_()
            NETWORK(image)[0, TARGETS[i]].backward()
            sizes = image.grad[0].abs().sum(0).flatten().tolist()
            for pixel in sorted(range(16), key=lambda p: -sizes[p])[:4]:
                votes[pixel] += 1 / 5
        assert_close(found[i, 0].flatten(), votes, rtol=0, atol=1e-12)


def test_noise_of_sparsified_smoothgrad_in_pixel_units_does_not_follow_the_range():
    dim = 0.5 + 0.1 * (IMAGES - 0.5)
    texts = [f"sparsified_smoothgrad:samples=3,noise={noise:.17g}{units}" for noise, units in
             [(0.05, ",units=pixel"), (0.05 / float(dim[0].max() - dim[0].min()), "")]]  # fmt: skip
    pixel, share = (explain(bench.component("explainer", text), dim)[0] for text in texts)
    assert_close(pixel, share, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("k", [1, 4, 9, 15])
def test_bound_is_the_overlap_that_the_worst_values_leave(k):
    """Where the k largest fall as far as they can, and all others rise, as the theorem allows."""
    torch.manual_seed(k)
    values = torch.rand(30, 20, dtype=torch.float64)
    for shift in (0.01, 0.1, 0.5, 2.0):
        found = certified_overlap(values, k, shift, 0.0)
        for row, kept in zip(values, found.tolist(), strict=True):
            ordered = sorted(row.tolist(), reverse=True)
            moved = stats.norm.cdf(stats.norm.ppf(ordered) + np.array([-shift] * k + [shift] * (20 - k)))
            worst = sorted(range(20), key=lambda place: -moved[place])[:k]
            assert kept == sum(place < k for place in worst)


def test_bound_without_a_second_sampling_is_the_formula_of_the_authors():
    torch.manual_seed(0)
    values = torch.rand(1, 40, dtype=torch.float64)
    for k, shift, error in ((5, 0.3, 0.01), (10, 0.05, 0.02)):
        flat = values[0].sort(descending=True).values.numpy()
        theirs = stats.norm.cdf(stats.norm.ppf(flat[:k] - error) - 2 * shift) - error > flat[k : 2 * k][::-1]
        # Ours takes the error off the attacked map too, so it certifies no more, and as much where there is none.
        assert int(certified_overlap(values, k, shift, error)) <= theirs.sum()
        exact = stats.norm.cdf(stats.norm.ppf(flat[:k]) - 2 * shift) > flat[k : 2 * k][::-1]
        assert int(certified_overlap(values, k, shift, 0.0)) == exact.sum()


def attacks(ball):
    """Images in the ball: where attacks on smoothgrad's map end, the corners of gradients, and random ones."""
    surrogate = bench.component("explainer", "smoothgrad:samples=10,noise=0.2")
    victim = bench.Victim(NETWORK, surrogate, IMAGES, lambda defense: NETWORK)
    for text in ("topk:k=4,steps=8", "mass_center:steps=8"):
        with noise.rows(0, text, range(2)):
            yield ball.project(bench.component("attack", text).perturb(victim, IMAGES, TARGETS, ball), IMAGES)
    with noise.rows(0, "random", range(2)):
        for _ in range(2):
            yield ball.project(IMAGES + 10 * noise.normal(IMAGES), IMAGES)


@pytest.mark.parametrize(
    "text, eps",
    [
        ("votes:samples=1500,noise=0.3,share=0.2", "1/20"),
        ("sparsified_smoothgrad:samples=2500,noise=0.3,units=pixel,keep=0.3", "1/50"),
    ],
)
def test_no_attack_leaves_less_than_the_bounds(text, eps):
    explainer, ball = bench.component("explainer", text), bench.Ball("l2", Fraction(eps))
    clean = explain(explainer, IMAGES)
    given = {"explainer": explainer, "ball": ball, "images": IMAGES, "clean_attributions": clean}
    bounds = {k: bench.component("metric", f"topk_overlap_bound:k={k}")(**given) for k in (2, 4, 6, 10)}
    assert sum(float(bound.sum()) for bound in bounds.values()) > 0  # else it would promise nothing
    safe = (
        least_chances(clean[:, 0], explainer.samples, 0.95) > stats.norm.cdf(float(ball.eps) / explainer.noise)
        if explainer.name == "votes"
        else torch.zeros(2, 4, 4, dtype=torch.bool)
    )
    for number, moved in enumerate(attacks(ball)):
        attacked = explain(explainer, moved, f"attacked {number}")
        for k, bound in bounds.items():
            kept = least_overlap(clean.sum(1), attacked.sum(1), k) / k
            assert (kept >= bound - 1e-12).all()
        assert ((clean > 0.5) == (attacked > 0.5))[:, 0][safe].all()


def test_certified_pixels_beside_tests_of_scipy():
    explainer = SimpleNamespace(samples=50, noise=0.2)
    votes = torch.arange(36, dtype=torch.float64).view(1, 1, 6, 6) / 50
    for eps in ("0", "1/20", "1/5"):
        ball = bench.Ball("l2", Fraction(eps))
        found = bench.component("metric", "certified_pixels")(
            explainer=explainer, ball=ball, images=IMAGES[:1], clean_attributions=votes
        )
        chance, certified = stats.norm.cdf(float(ball.eps) / 0.2), 0
        for hits in range(36):
            tests = [stats.binomtest(n, 50, chance, alternative="greater").pvalue for n in (hits, 50 - hits)]
            certified += min(tests) < 0.05 / (2 * 36)
        assert float(found) == certified / 36 < (1 if not ball.eps else 0.5)


def test_a_linf_ball_counts_by_the_l2_ball_around_it():
    explainer = bench.component("explainer", "votes:samples=400,noise=0.3,share=0.2")
    given = {"explainer": explainer, "images": IMAGES, "clean_attributions": explain(explainer, IMAGES)}
    round_ball = bench.Ball("l2", Fraction(1, 50) * math.isqrt(48 * 10**8) / 10**4)
    for text in ("certified_pixels", "topk_overlap_bound:k=6"):
        metric = bench.component("metric", text)
        linf = metric(ball=bench.Ball("linf", Fraction(1, 50)), **given)
        assert_close(linf, metric(ball=round_ball, **given))
        assert (metric(ball=bench.Ball("l2", Fraction(1, 50)), **given) >= linf).all()
    empty = {**given, "clean_attributions": torch.zeros(2, 1, 4, 4, dtype=torch.float64)}
    assert metric(ball=round_ball, **empty).isnan().all()


def test_what_has_no_certificate_is_refused():
    def refuse(metric, explainer):
        return bench.component("metric", metric).refuse(
            SimpleNamespace(explainer=bench.component("explainer", explainer), ball=bench.Ball("l2", Fraction(1)))
        )

    assert refuse("topk_overlap_bound", "votes") is None
    assert refuse("topk_overlap_bound", "sparsified_smoothgrad:units=pixel") is None
    assert refuse("topk_overlap_bound", "gradient") == (
        "explainer gradient has no certificate; use sparsified_smoothgrad or votes"
    )
    assert refuse("topk_overlap_bound", "sparsified_smoothgrad") == (
        "explainer sparsified_smoothgrad has no certificate as it is; give it units=pixel"
    )
    assert refuse("cosine_bound", "unigrad:shape=ball,unit=true") is None
    assert refuse("cosine_bound", "unigrad:times_input=true") == (
        "explainer unigrad:times_input=true has no certificate as it is; give it shape=ball,unit=true,times_input=false"
    )
    assert refuse("certified_pixels", "smoothgrad") == "explainer smoothgrad has no certificate; use votes"


def test_bound_of_more_pixels_than_there_are():
    explainer = bench.component("explainer", "votes:samples=4")
    given = {"explainer": explainer, "images": IMAGES, "clean_attributions": explain(explainer, IMAGES)}
    with pytest.raises(bench.BadValue, match="topk_overlap_bound:k=17: k is 17, but the maps have 16 pixels; lower k"):
        bench.component("metric", "topk_overlap_bound:k=17")(ball=bench.Ball("l2", Fraction(1)), **given)
    with pytest.raises(
        bench.BadValue, match="there is no certificate in the ball rotation:30; use one of the norm linf"
    ):
        bench.component("metric", "topk_overlap_bound:k=5")(ball=bench.Ball("rotation", Fraction(30)), **given)


@pytest.mark.parametrize("ball", ["l0:1", "l0:5", "l0:40", "linf:1/4", "l2:1/2"])
def test_the_l2_ball_that_a_certificate_takes_holds_the_whole_ball(ball):
    norm, eps = ball.split(":")
    ball, black = bench.Ball(norm, Fraction(eps)), torch.zeros(1, *SHAPE, dtype=torch.float64)
    farthest = ball.project(torch.full_like(black, 2.0), black).norm()
    assert_close(farthest, torch.tensor(l2_radius(ball, black), dtype=torch.float64))


def test_noise_in_a_ball_is_uniform():
    with noise.rows(0, "x", range(2000)):
        drawn = 12**0.5 * noise.ball(torch.empty(2000, 3, 2, 2, dtype=torch.float64)).flatten(1)
    shares = (drawn.norm(dim=1) / 12**0.5) ** 12  # of the volume within
    assert stats.kstest(shares, "uniform").pvalue > 0.01 and drawn.mean(0).abs().max() < 0.1
    assert_close(drawn.T @ drawn / 2000, torch.eye(12).double() * 12 / 14, rtol=0, atol=0.1)


@pytest.mark.parametrize("dimensions, distance", [(1, 0.5), (2, 0.7), (3, 1.2), (8, 0.3)])
def test_what_two_balls_have_in_common(dimensions, distance):
    """Beside lengths on a line, and points drawn at random."""
    drawn = torch.randn(40000, dimensions, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    radii = torch.rand(40000, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** (1 / dimensions)
    points = radii * drawn / drawn.norm(dim=1, keepdim=True)
    points[:, 0] -= distance
    found = share_in_common(1.0, distance, dimensions)
    assert found == pytest.approx(float((points.norm(dim=1) < 1).double().mean()), abs=0.01)
    if dimensions == 1:
        assert found == pytest.approx(1 - distance / 2, abs=1e-9)
    assert share_in_common(1.0, 2.0, dimensions) == 0 and share_in_common(1.0, 0.0, dimensions) == 1


def test_no_attack_turns_the_map_by_more_than_the_bound():
    explainer = bench.component("explainer", "unigrad:samples=4000,radius=1/5,shape=ball,unit=true")
    ball = bench.Ball("l2", Fraction(1, 50))
    clean = explain(explainer, IMAGES)
    bound = bench.component("metric", "cosine_bound")(
        explainer=explainer, ball=ball, images=IMAGES, clean_attributions=clean
    )
    assert (bound > 0.3).all()  # else it would promise nothing
    for number, moved in enumerate(attacks(ball)):
        attacked = explain(explainer, moved, f"attacked {number}")
        first, second = (each.abs().sum(1).flatten(1) for each in (clean, attacked))
        assert (torch.cosine_similarity(first, second) >= bound).all()


def test_unit_gradients_have_length_one():
    found = explain(bench.component("explainer", "unigrad:samples=1,unit=true"), IMAGES)
    assert_close(found.flatten(1).norm(dim=1), torch.ones(2).double())
