"""Explainers made of others, beside slow loops and the methods that they contain; in float64."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import bench
from bench import gradients, noise
from bench.testing import tiny_images, tiny_network

TARGETS = torch.tensor([0, 1, 2, 0, 1])


@pytest.fixture
def images():
    return tiny_images()[0]


@pytest.fixture(params=[True, False], ids=["softplus", "relu"])
def network(request):
    return tiny_network(request.param)


def attribution(text, network, images):
    with torch.no_grad(), noise.rows(3, "x", range(len(images))):
        return bench.component("explainer", text).attribute(network, images, TARGETS)


def raw(network, image, target):
    leaf = image[None].clone().requires_grad_()
    network(leaf)[0, target].backward()
    return leaf.grad[0]


def test_aggregation_beside_a_slow_loop(network, images):
    found = attribution("aggregation", network, images)
    assert_close(found, attribution("aggregation:explainers=(gradient,input_x_gradient)", network, images))
    for i, target in enumerate(TARGETS.tolist()):
        gradient = raw(network, images[i], target)
        expected = torch.zeros_like(images[i, 0])
        for values in (gradient, gradient * (images[i] - network.mean)):
            expected += values.abs().sum(0) / values.abs().sum() / 2
        assert_close(found[i, 0], expected)


def test_an_aggregation_is_attackable_where_all_of_it_is(images):
    for inner, is_attackable in {"gradient,gradcam": True, "gradient,occlusion": False}.items():
        explainer = bench.component("explainer", f"aggregation:explainers=({inner})")
        maps = explainer.maps(tiny_network(True), images.clone().requires_grad_(), TARGETS)
        assert explainer.differentiable == maps.requires_grad == is_attackable
    with pytest.raises(bench.BadValue, match=r"explainers is empty; name at least one, explainers=\(gradient\)"):
        bench.component("explainer", "aggregation:explainers=()")


def test_an_aggregation_gives_each_explainer_what_it_learned(images):
    inner, network = "expected_gradients:samples=2", tiny_network(True)
    explainer = bench.component("explainer", f"aggregation:explainers=(gradient,{inner})")
    assert explainer.prepares
    starts = images.flip(3)
    with torch.no_grad():
        found = explainer.maps(network, images, TARGETS, {"1.references": starts})
        plain = bench.component("explainer", "gradient").maps(network, images, TARGETS)
        other = bench.component("explainer", inner).maps(network, images, TARGETS, {"references": starts})
    assert_close(found, (plain + other) / 2)


def test_an_attack_on_an_aggregation_watches_the_networks_own_logits(network, images):
    explainer = bench.component("explainer", "aggregation:explainers=(softened:beta=1,smooth,rise:samples=2,gradient)")
    maps, logits = bench.Victim(network, explainer).both(images, TARGETS)
    assert_close(logits, network(images))
    assert_close(maps.sum((1, 2)), torch.ones(5, dtype=torch.float64))


def test_the_smooth_gradient_is_smoothgrad(network, images):
    for options in ("samples=4", "samples=3,noise=0.3"):
        expected = attribution(f"smoothgrad:{options}", network, images)
        assert_close(attribution(f"smooth:explainer=(gradient),{options}", network, images), expected)


def test_smooth_beside_a_slow_loop(network, images):
    found = attribution("smooth:samples=3,noise=0.2", network, images)
    for i, target in enumerate(TARGETS.tolist()):
        expected = torch.zeros_like(images[i])
        for draw in range(3):
            with noise.rows(3, "x", [i]), noise.repeat(range(draw, draw + 1)):
                moved = images[i] + 0.2 * (images[i].max() - images[i].min()) * noise.normal(images[i : i + 1])[0]
            expected += (moved - network.mean) * raw(network, moved, target) / 3
        assert_close(found[i], expected)


@pytest.mark.parametrize("inner", ["occlusion", "relex", "gradcam:mask_rule=minmax", "expected_gradients"])
def test_smooth_is_what_it_smooths(inner):
    plain, wrapped = (bench.component("explainer", text) for text in (inner, f"smooth:explainer=({inner})"))
    for fact in ("differentiable", "mask_rule", "prepares"):
        assert getattr(wrapped, fact) == getattr(plain, fact)


CHUNKED = [
    *("smooth:samples=3", "smooth:explainer=(smoothgrad:samples=2),samples=3", "rise:samples=5,cells=4"),
    *("smooth:explainer=(rise:samples=2,cells=4),samples=2", "blur_integrated_gradients:steps=5"),
    "aggregation:explainers=(smoothgrad:samples=3,smooth:samples=3)",
]


@pytest.mark.parametrize("text", CHUNKED)
def test_chunks_change_neither_maps_nor_their_gradients(monkeypatch, images, text):
    network, explainer, found = tiny_network(True), bench.component("explainer", text), []
    for numbers in (10**7, 1):
        monkeypatch.setitem(gradients.CHUNK, "cpu", numbers)
        leaf = images.clone().requires_grad_()
        with noise.rows(3, "x", range(5)):
            maps = explainer.maps(network, leaf, TARGETS)
        found.append((maps.detach(), torch.autograd.grad(maps[:, ::2].square().sum(), leaf)[0]))
    assert found[0][1].any()
    assert_close(found[1], found[0], rtol=1e-9, atol=1e-12)


def blurred(image, sigma):
    """By a Gaussian cut off at round(3 sigma) pixels, mirrored at the border."""
    reach = round(3 * sigma)
    if not reach:
        return image
    offsets = range(-reach, reach + 1)
    weights = [torch.exp(torch.tensor(-0.5 * (o / sigma) ** 2, dtype=image.dtype)) for o in offsets]
    for axis in (1, 2):
        size = image.shape[axis]
        places = torch.arange(size)
        total = torch.zeros_like(image)
        for offset, weight in zip(offsets, weights, strict=True):
            at = (places + offset).abs()
            total += weight / sum(weights) * image.index_select(axis, torch.where(at < size, at, 2 * size - 2 - at))
        image = total
    return image


def test_blur_integrated_gradients_beside_a_slow_loop(network, images):
    found = attribution("blur_integrated_gradients:steps=4,blur=0.15", network, images)
    for i, target in enumerate(TARGETS.tolist()):
        path = [blurred(images[i], 0.15 * 12 * share) for share in (1, 0.75, 0.5, 0.25, 0)]
        expected = sum(raw(network, path[k], target) * (path[k] - path[k - 1]) for k in range(1, 5))
        assert_close(found[i], expected)


def test_blur_integrated_gradients_are_complete(images):
    network = tiny_network(True)
    found = attribution("blur_integrated_gradients:steps=200", network, images).sum((1, 2, 3))
    ends = [network(x)[range(5), TARGETS] for x in (images, torch.stack([blurred(x, 50 / 224 * 12) for x in images]))]
    assert_close(found, ends[0] - ends[1], atol=5e-3, rtol=0)
