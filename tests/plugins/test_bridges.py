"""What other libraries compute through this one, beside slow loops and calls of their own; in float64."""

from __future__ import annotations

import random
import sys
import warnings

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import bench
from bench import noise
from bench.testing import tiny_images, tiny_network

IMAGES, TARGETS = tiny_images(3)
DATA = bench.Data(IMAGES, TARGETS, ("a", "b", "c"))


def explain(text, network=None, images=IMAGES):
    with torch.no_grad(), noise.rows(0, "x", range(len(images))):
        explainer = bench.component("explainer", text)
        return explainer.attribute(network or tiny_network(True), images, TARGETS[: len(images)])


def test_ablation_beside_a_slow_loop():
    network = tiny_network(True)
    found = explain("captum:method=FeatureAblation,square=5", network)
    assert_close(explain("captum:method=Occlusion,square=5", network)[..., :10, :10], found[..., :10, :10])
    whole = network(IMAGES).gather(1, TARGETS[:, None])[:, 0]
    for top in (0, 5, 10):  # the last squares have two pixels a side
        for left in (0, 5, 10):
            place = (..., slice(top, top + 5), slice(left, left + 5))
            covered = IMAGES.clone()
            covered[place] = 0.5  # the mean colour
            fall = whole - network(covered).gather(1, TARGETS[:, None])[:, 0]
            assert_close(found[place], fall.view(-1, 1, 1, 1).expand_as(found[place]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["KernelShap", "ShapleyValueSampling", "Lime"])
def test_features_of_a_linear_network_get_what_they_add(method):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 3)).double()
    with torch.no_grad(), noise.rows(0, "weights", [0]):
        network[1].weight.copy_(noise.uniform(torch.empty(1, 3, 432, dtype=torch.float64))[0])
    found = explain(f"captum:method={method},samples=60,square=6,fill=black", network.requires_grad_(False))
    added = network[1].weight[TARGETS].view(3, 3, 12, 12) * IMAGES
    squares = added.sum(1).view(3, 2, 6, 2, 6).sum((2, 4))
    expected = squares.repeat_interleave(6, 1).repeat_interleave(6, 2)[:, None].expand_as(found)
    # captum adds up in single precision, holds the sum of KernelShap by large weights, and shrinks those of Lime.
    assert_close(found, expected, rtol=0, atol={"KernelShap": 1e-4, "ShapleyValueSampling": 1e-5, "Lime": 0.2}[method])


@pytest.mark.parametrize(
    "method, options",
    [
        ("GradientShap", {"baselines": torch.full((1, 3, 12, 12), 0.5, dtype=torch.float64), "n_samples": 7}),
        ("IntegratedGradients", {"baselines": 0.5, "n_steps": 7}),
        ("InputXGradient", {}),
        ("Saliency", {"abs": False}),
    ],
)
def test_beside_a_call_of_captum(method, options):
    network, found = tiny_network(True), explain(f"captum:method={method},samples=7")
    with noise.rows(0, "x", range(3)):
        seeds = noise.uniform(torch.empty(3, 1, dtype=torch.float64), 0, 2**31)[:, 0].tolist()
    for i, seed in enumerate(seeds):
        torch.manual_seed(int(seed))
        np.random.seed(int(seed))
        image = IMAGES[i : i + 1].clone().requires_grad_()
        theirs = getattr(captum.attr, method)(network).attribute(image, target=int(TARGETS[i]), **options)
        assert_close(found[i : i + 1], theirs.detach(), rtol=0, atol=1e-9)


def test_generators_go_on_as_if_nothing_had_happened():
    def draw():
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with noise.generators(7):
        first = draw()
    assert draw() == expected
    with pytest.raises(ZeroDivisionError), noise.generators(7):
        assert draw() == first
        raise ZeroDivisionError


def test_captum_that_is_missing_or_does_not_know_a_method(monkeypatch):
    with pytest.raises(bench.BadValue, match="explainer captum: method is 'LayerLRP', must be 'FeatureAblation', "):
        bench.component("explainer", "captum:method=LayerLRP")
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(bench.EnvironmentProblem, match=r"captum:method=Lime needs captum.*; pip install .*\[captum\]'"):
        explain("captum:method=Lime")


def score(text, lost=()):
    torch.manual_seed(0)
    attributions = torch.rand(3, 3, 12, 12, dtype=torch.float64) - 0.5
    attributions[list(lost)] = 0
    given = {"images": IMAGES, "targets": TARGETS, "clean_attributions": attributions, "seed": 0, "test_data": DATA}
    return bench.component("metric", text)(network=tiny_network(True), **given), attributions


@pytest.mark.parametrize(
    "name, better",
    [
        ("Completeness", "higher"),
        ("Complexity", "lower"),
        ("FaithfulnessEstimate", "higher"),
        ("Infidelity", "lower"),
        ("PixelFlipping", "lower"),
        ("RegionPerturbation", "lower"),
        ("Selectivity", "lower"),
    ],
)
def test_scores_of_quantus_and_the_direction_that_it_states(name, better):
    with warnings.catch_warnings(action="ignore"):
        import quantus

    found, _ = score(f"quantus:metric={name},step=24,draws=2")
    metric = bench.component("metric", f"quantus:metric={name}")
    assert metric.better == better == getattr(quantus, name).score_direction.value
    assert found.shape == (3,) and found.isfinite().all()


@pytest.mark.parametrize("name", ["Complexity", "FaithfulnessCorrelation", "Infidelity", "PixelFlipping", "Sparseness"])
def test_an_image_without_a_map_has_no_score_of_quantus_and_the_others_keep_theirs(name):
    whole, _ = score(f"quantus:metric={name},step=24,draws=4")
    found, _ = score(f"quantus:metric={name},step=24,draws=4", lost=[1])
    assert found[1].isnan()
    assert_close(found[[0, 2]], whole[[0, 2]], rtol=0, atol=0)


def test_complexity_of_quantus_beside_its_formula():
    found, attributions = score("quantus:metric=Complexity")
    shares = attributions.float().abs().flatten(1)
    shares = shares / shares.sum(1, keepdim=True)
    assert_close(found, -(shares * shares.log()).sum(1).double(), rtol=1e-5, atol=1e-5)


def test_pixel_flipping_of_quantus_is_the_mean_of_its_curve():
    found, attributions = score("quantus:metric=PixelFlipping,step=48")
    for i in range(3):
        order = attributions[i].flatten().argsort(descending=True)
        image, curve = IMAGES[i].clone(), []
        for group in order.split(48):
            image.view(-1)[group] = IMAGES[i].min()  # what quantus calls black
            curve.append(tiny_network(True)(image[None]).softmax(1)[0, TARGETS[i]])
        assert_close(found[i], torch.stack(curve).mean(), rtol=1e-5, atol=1e-6)


def test_quantus_that_is_missing_does_not_know_a_metric_or_wants_another_step(monkeypatch):
    with pytest.raises(bench.BadValue, match="metric quantus: metric is 'MPRT', must be 'Completeness', "):
        bench.component("metric", "quantus:metric=MPRT")
    with pytest.raises(bench.BadValue, match=r"quantus:metric=PixelFlipping,step=7: .*; choose another step"):
        score("quantus:metric=PixelFlipping,step=7")
    monkeypatch.setitem(sys.modules, "quantus", None)
    with pytest.raises(bench.EnvironmentProblem, match=r"quantus:.* needs quantus.*; pip install .*\[quantus\]'"):
        score("quantus:metric=Sparseness")
