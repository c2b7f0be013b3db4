"""Similarities of maps beside scipy, scikit-image and slow loops, on maps of all kinds and sizes; in float64."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from skimage.metrics import structural_similarity
from torch.testing import assert_close

import bench

SIZES = [(1, 1), (1, 7), (3, 3), (12, 9), (32, 32), (224, 224)]


def kinds(size, seed=0):
    """Pairs of maps of sum one: random, with many ties, sparse, one of a single pixel, one constant."""
    draw = np.random.default_rng(seed)
    first = [draw.random(size), draw.integers(1, 4, size) * 1.0, draw.random(size) * (draw.random(size) > 0.8)]
    second = [draw.random(size), draw.integers(1, 4, size) * 1.0, draw.random(size) * (draw.random(size) > 0.8)]
    single = np.zeros(size)
    single[size[0] // 2, size[1] // 3] = 1
    first, second = [*first, single, np.ones(size)], [*second, draw.random(size), draw.random(size)]
    return [np.stack([m / m.sum() if m.sum() else m for m in maps]) for maps in (first, second)]


def score(text, first, second):
    metric, maps = bench.component("metric", text), {"clean_maps": torch.tensor(first)}
    return metric(**maps) if metric.name == "self_similarity" else metric(**maps, attacked_maps=torch.tensor(second))


def expected(function, first, second):
    def one(a, b):
        return function(a, b) if a.any() and b.any() else math.nan

    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        return torch.tensor([one(a, b) for a, b in zip(first, second, strict=True)], dtype=torch.float64)


def correlation(function):
    def of(a, b):
        return math.nan if np.ptp(a) == 0 or np.ptp(b) == 0 else function(a.ravel(), b.ravel()).statistic

    return of


def slow_mass(a, b, k=1):
    a, b = a.ravel().tolist(), b.ravel().tolist()
    top = sorted(range(len(a)), key=lambda i: (-a[i], b[i]))[:k]
    return sum(b[i] for i in top) / sum(a[i] for i in top)


def slow_overlap(a, b):
    """Of the single largest pixels: they are surely the same only where each map has one."""
    first, second = (np.flatnonzero(m == m.max()).tolist() for m in (a, b))
    return float(first == second and len(first) == 1)


ORACLES = {
    "pearson": correlation(scipy.stats.pearsonr),
    "spearman": correlation(scipy.stats.spearmanr),
    "l1_distance": lambda a, b: abs(a - b).sum(),
    "center_shift": lambda a, b: math.dist(scipy.ndimage.center_of_mass(a), scipy.ndimage.center_of_mass(b)),
    "cosine": lambda a, b: (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b),
    "topk_mass:k=1": slow_mass,
    "topk_overlap:k=1": slow_overlap,
}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("text", ORACLES)
def test_a_similarity_is_what_it_is_elsewhere(text, size):
    first, second = kinds(size)
    assert_close(
        score(text, first, second), expected(ORACLES[text], first, second), equal_nan=True, rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("size", [(11, 11), (12, 30), (32, 32), (224, 224)], ids=str)
def test_ssim_is_scikit_images(size):
    first, second = kinds(size)

    def theirs(a, b):
        span = max(a.max(), b.max()) - min(a.min(), b.min())
        given = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": span}
        return structural_similarity(a, b, **given)

    assert_close(score("ssim", first, second), expected(theirs, first, second), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 3), (10, 9)], ids=str)
def test_ssim_of_small_maps_beside_a_slow_loop(size):
    first, second = kinds(size)
    side = min(11, *size)
    side -= 1 - side % 2
    offsets = np.arange(side) - side // 2
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / 4.5)
    weights /= weights.sum()

    def slow(a, b):
        span = max(a.max(), b.max()) - min(a.min(), b.min()) or 1.0
        found = []
        for i in range(size[0] - side + 1):
            for j in range(size[1] - side + 1):
                x, y = a[i : i + side, j : j + side], b[i : i + side, j : j + side]
                mx, my = (weights * x).sum(), (weights * y).sum()
                vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
                cov = (weights * (x - mx) * (y - my)).sum()
                c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
                found.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
        return np.mean(found)

    assert_close(score("ssim", first, second), expected(slow, first, second), equal_nan=True, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_printed_mass_is_the_sum_over_the_clean_top_pixels(size):
    def slow(a, b):
        a, b = a.ravel().tolist(), b.ravel().tolist()
        top = sorted(range(len(a)), key=lambda i: (-a[i], b[i]))[:1]
        return sum(b[i] for i in top) / sum(b)

    first, second = kinds(size)
    found = score("topk_mass:k=1,divide=false", first, second)
    assert_close(found, expected(slow, first, second), equal_nan=True, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("text", [*ORACLES, "ssim"])
@pytest.mark.parametrize("size", [(1, 1), (12, 9), (32, 32)], ids=str)
def test_the_same_map_has_the_best_value_and_zero_maps_none(text, size):
    first, _ = kinds(size)
    best = 0.0 if bench.component("metric", text).better == "lower" else 1.0
    found = score(text, first, first)
    if text == "topk_overlap:k=1":  # a map of which several pixels are largest surely keeps none
        sole = [float((m == m.max()).sum() == 1) if m.any() else math.nan for m in first]
        assert_close(found, torch.tensor(sole, dtype=torch.float64), equal_nan=True)
        first, found = first[found == 1], found[found == 1]
    defined = ~found.isnan()
    assert_close(found[defined], torch.full_like(found[defined], best))
    assert defined.all() or text in ("pearson", "spearman") or not first.any((1, 2)).all()
    assert score(text, first, np.zeros_like(first)).isnan().all()


@pytest.mark.parametrize(
    "text", ["pearson", "spearman", "cosine", "l1_distance", "center_shift", "ssim", "topk_overlap:k=5"]
)
def test_it_does_not_matter_which_map_comes_first(text):
    first, second = kinds((12, 9))
    assert_close(score(text, first, second), score(text, second, first), equal_nan=True)


@pytest.mark.parametrize("text", ["topk_mass:k=145", "topk_overlap:k=145"])
def test_more_pixels_than_there_are_say_so(text):
    name = text.partition(":")[0]
    with pytest.raises(bench.BadValue, match=f"{name}: k is 145, but the maps have 144 pixels"):
        score(text, *kinds((12, 12)))


def largest(values, k):
    """Every set of places that may be the k largest, one for each way to break ties."""
    last = sorted(values, reverse=True)[k - 1]
    above = {i for i, v in enumerate(values) if v > last}
    equal = [i for i, v in enumerate(values) if v == last]
    return [above | set(rest) for rest in itertools.combinations(equal, k - len(above))]


@pytest.mark.parametrize("levels", [(1, 1), (1, 9), (2, 2), (3, 2), (3, 60), (60, 3), (60, 60)], ids=str)
def test_of_all_ways_to_break_ties_the_worst_counts(levels):
    draw = np.random.default_rng(0)
    first, second = (draw.integers(1, 1 + top, (60, 2, 4)) * 1.0 for top in levels)
    for k in (1, 3, 6, 8):
        expected = [
            min(len(mine & theirs) for mine in largest(a.ravel(), k) for theirs in largest(b.ravel(), k)) / k
            for a, b in zip(first, second, strict=True)
        ]
        assert score(f"topk_overlap:k={k}", first, second).tolist() == pytest.approx(expected)
        elements = score_elements(f"topk_overlap_elements:share={k / 8}", first, second)
        assert elements.tolist() == pytest.approx(expected)


def score_elements(text, first, second):
    return bench.component("metric", text)(
        clean_attributions=torch.tensor(first)[:, None], attacked_attributions=-torch.tensor(second)[:, None]
    )


def test_constant_sparse_and_rounded_maps_gain_nothing_by_ties():
    draw = np.random.default_rng(0)
    constant, sparse, free = np.ones((1, 12, 12)), np.zeros((1, 12, 12)), draw.random((1, 12, 12))
    sparse[0, 3, [2, 5, 7]] = 3, 2, 1
    rounded = (free > 0.93) * 2.0 + (free <= 0.93)
    above = int((rounded == 2).sum())
    assert above < 20
    assert score("topk_overlap", free, free) == 1
    assert score("topk_overlap", constant, constant) == score("topk_overlap", free, constant) == 0
    assert score("topk_overlap", sparse, sparse) == pytest.approx(3 / 20)
    assert score("topk_overlap", rounded, rounded) == pytest.approx(above / 20)
    assert score("self_similarity", sparse, sparse) == pytest.approx(3 / 20)
    # All twenty tied pixels hold as much in the clean map, and the least twenty of the attacked one count.
    assert score("topk_mass", constant / 144, free / free.sum()) == pytest.approx(
        np.sort(free.ravel())[:20].sum() / free.sum() / (20 / 144)
    )


def test_explaining_and_attacking_take_time(tiny_run):
    outcome = tiny_run(metric=["explain_time", "attack_time"])
    assert not outcome.failures
    assert all(r.value > 0 and r.unit == "s" and r.better == "lower" for r in outcome.records.values())


PAIRS = ["topk_overlap:k=3", "cosine", "ssim", "pearson", "spearman", "l1_distance", "center_shift", "topk_mass:k=3"]


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
@pytest.mark.parametrize("text", PAIRS)
def test_what_is_undefined_has_no_similarity(text, broken):
    maps = torch.rand(3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    metric, wrong = bench.component("metric", text), maps.clone()
    wrong[1, 5, 5] = broken
    whole = torch.full_like(maps, broken)
    for clean, attacked in ((maps, wrong), (wrong, maps), (wrong, wrong)):
        scores = metric(clean_maps=clean, attacked_maps=attacked)
        assert scores.isnan().tolist() == [False, True, False]
    assert metric(clean_maps=whole, attacked_maps=whole).isnan().all()


def test_what_is_undefined_is_no_hit():
    logits, labels = torch.eye(3), torch.tensor([0, 1, 2])
    logits[0] = torch.nan
    assert bench.component("metric", "accuracy")(clean_logits=logits, labels=labels).isnan().tolist() == [
        True,
        False,
        False,
    ]
    maps, masks = torch.rand(3, 6, 6), torch.ones(3, 6, 6)
    maps[2, 0, 0] = torch.nan
    for name in ("pointing_game", "mask_mass", "mask_overlap"):
        scores = bench.component("metric", name)(clean_maps=maps, object_masks=masks)
        assert scores.isnan().tolist() == [False, False, True]
    data = bench.Data(torch.rand(3, 3, 6, 6), labels, ("a", "b", "c"))
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(108, 3))
    curve = bench.component("metric", "insertion:steps=2")(
        network=network, images=data.images, targets=labels, clean_attributions=maps[:, None]
    )
    assert curve.values.isnan().all(1).tolist() == [False, False, True]
    minus = torch.eye(3).log()  # a class that is ruled out
    assert bench.component("metric", "accuracy")(clean_logits=minus, labels=labels).tolist() == [1, 1, 1]


@pytest.mark.parametrize("text", ["rps:draws=2,similarity=(topk_overlap:k=3)", "local_lipschitz:draws=2"])
def test_a_map_that_becomes_undefined_nearby_has_no_score(text):
    images = torch.rand(3, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    data = bench.Data(images, torch.tensor([0, 1, 2]), ("a", "b", "c"))
    calls = []

    def explain(network, images, targets):
        maps = images.mean(1)
        calls.append(1)
        if len(calls) % 2 == 0:
            maps[1, 0, 0] = torch.nan
        return maps

    scores = bench.component("metric", text)(
        network=torch.nn.Flatten(), explain=explain, images=images, targets=data.labels, clean_maps=images.mean(1),
        seed=0, test_data=data,
    )  # fmt: skip
    assert scores.isnan().tolist() == [False, True, False]


def slow_lens(first, second, k, window, diverse):
    """Pixels of the second map near those of the first one, by sets, as in the authors' code but for the edge."""

    def near(pixel):
        reach = range(-(window // 2), window // 2 + 1)
        return {(pixel[0] + i, pixel[1] + j) for i in reach for j in reach}

    def choose(values):
        order = sorted(itertools.product(range(len(values)), range(len(values[0]))), key=lambda p: -values[p])
        if not diverse:
            return order[:k]
        chosen = []
        while order and len(chosen) < k:
            chosen.append(order[0])
            order = [pixel for pixel in order if pixel not in near(chosen[-1])]
        return chosen

    around = set().union(*(near(pixel) for pixel in choose(first) if first[pixel]))
    counted = choose(second)
    return sum(pixel in around and second[pixel] > 0 for pixel in counted) / len(counted)


@pytest.mark.parametrize(
    "k, window, diverse", [(1, 1, False), (9, 3, False), (9, 5, False), (6, 3, True), (40, 3, True)]
)
def test_lens_beside_sets(k, window, diverse):
    first, second = kinds((12, 9))
    text = f"lens:k={k},window={window},diverse={str(diverse).lower()}"
    for side, a, b in (("recall", first, second), ("precision", second, first)):
        found = score(f"{text},side={side}", first, second).tolist()
        assert found == [slow_lens(*pair, k, window, diverse) for pair in zip(a, b, strict=True)]


def test_lens_counts_a_pixel_that_moves_by_a_little():
    first = np.zeros((2, 9, 9))
    first[:, 2:7:2, 2:7:2] = [[9, 8, 7], [6, 5, 4], [3, 2, 1]]
    moved = np.roll(first, (1, 1), (1, 2))
    assert score("topk_overlap:k=9", first, moved).tolist() == [0, 0]
    assert score("lens:k=9", first, moved).tolist() == [1, 1]
    assert score("lens:k=9,window=1", first, moved).tolist() == [0, 0]


def test_lens_wants_a_window_with_a_middle_and_as_many_pixels_as_it_counts():
    with pytest.raises(bench.BadValue, match="metric lens: window is 4, has no pixel in its middle; use an odd number"):
        bench.component("metric", "lens:window=4")
    with pytest.raises(bench.BadValue, match="metric lens:k=145: k is 145, but the maps have 144 pixels; lower k"):
        score("lens:k=145", *(np.ones((1, 12, 12)),) * 2)
