"""Explainers beside captum, slow loops from the papers, and cases solved by hand; in float64."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import bench
from bench import noise
from bench.testing import tiny_images, tiny_network

TARGETS = torch.tensor([0, 1, 2, 0, 1])


@pytest.fixture
def images():
    return tiny_images()[0]


@pytest.fixture(params=[True, False], ids=["softplus", "relu"])
def network(request):
    return tiny_network(request.param)


def attribution(text, network, images, name="x"):
    with torch.no_grad(), noise.rows(3, name, range(len(images))):
        return bench.component("explainer", text).attribute(network, images, TARGETS)


def gradient(network, image, target):
    leaf = image[None].clone().requires_grad_()
    network(leaf)[0, target].backward()
    return leaf.grad[0]


def asking(images):
    """What captum wants, and warns without."""
    return images.clone().requires_grad_()


def inner(network):
    """The network behind the normalisation, and what it is given."""
    return network.network, lambda images: (images - network.mean) / network.std


def test_gradient_beside_captum(network, images):
    assert_close(
        attribution("gradient", network, images),
        captum.attr.Saliency(network).attribute(asking(images), TARGETS, abs=False),
    )


def test_input_x_gradient_beside_captum(network, images):
    assert_close(
        attribution("input_x_gradient:space=pixel", network, images),
        captum.attr.InputXGradient(network).attribute(asking(images), TARGETS).detach(),
    )
    within, normalise = inner(network)
    assert_close(
        attribution("input_x_gradient", network, images),
        captum.attr.InputXGradient(within).attribute(asking(normalise(images)), TARGETS).detach(),
    )


@pytest.mark.parametrize("steps", [2, 5, 50])
def test_integrated_gradients_beside_captum(network, images, steps):
    theirs = captum.attr.IntegratedGradients(network)
    given = {"target": TARGETS, "n_steps": steps, "method": "riemann_right"}
    black = theirs.attribute(images, torch.zeros_like(images), **given)
    assert_close(attribution(f"integrated_gradients:steps={steps},baseline=black", network, images), black)
    within, normalise = inner(network)
    mean = captum.attr.IntegratedGradients(within).attribute(normalise(images), torch.zeros_like(images), **given)
    assert_close(attribution(f"integrated_gradients:steps={steps}", network, images), mean)


def test_integrated_gradients_of_the_softmax_beside_a_slow_sum(network, images):
    found = attribution("integrated_gradients:steps=4,baseline=black,score=softmax", network, images)
    for i, target in enumerate(TARGETS.tolist()):
        total = torch.zeros_like(images[i])
        for k in range(1, 5):
            point = (k / 4 * images[i : i + 1]).requires_grad_()
            exponents = network(point)[0].exp()
            total += torch.autograd.grad(exponents[target] / exponents.sum(), point)[0][0] / 4
        assert_close(found[i], images[i] * total)


def test_integrated_gradients_are_complete(network, images):
    found = attribution("integrated_gradients:steps=2000", network, images).sum((1, 2, 3))
    with torch.no_grad():
        ends = [network(x).gather(1, TARGETS[:, None])[:, 0] for x in (images, network.mean.expand_as(images))]
    assert_close(found, ends[0] - ends[1], atol=2e-3, rtol=0)


def test_averages_beside_slow_loops(network, images):
    def noisy(draw, texture):
        with noise.rows(3, "x", range(5)), noise.repeat(range(draw, draw + 1)):
            return texture(images)

    smooth, uniform, relative = (torch.zeros_like(images) for _ in range(3))
    for draw in range(6):
        normal, flat = noisy(draw, noise.normal), noisy(draw, noise.uniform)
        for i in range(5):
            width = 0.2 * (images[i].max() - images[i].min())
            smooth[i] += gradient(network, images[i] + width * normal[i], TARGETS[i]) / 6
            uniform[i] += gradient(network, images[i] + 8 / 255 * flat[i], TARGETS[i]) / 6
            relative[i] += gradient(network, images[i] + width * flat[i], TARGETS[i]) / 6
    assert_close(attribution("smoothgrad:samples=6,noise=0.2", network, images), smooth)
    assert_close(attribution("unigrad:samples=6,radius=8/255", network, images), uniform)
    assert_close(attribution("unigrad:samples=6,radius=1/5,units=range", network, images), relative)
    for text, mean in (("smoothgrad:samples=6,noise=0.2", smooth), ("unigrad:samples=6,radius=8/255", uniform)):
        assert_close(attribution(f"{text},times_input=true", network, images), images * mean)


def test_sparse_explainers_beside_slow_loops(network, images):
    def keep(values, share):
        kept = np.zeros_like(values)
        for index in sorted(range(len(values)), key=lambda j: -values[j])[: int(share * len(values))]:
            kept[index] = values[index]
        return kept

    found = attribution("sparse_gradient:keep=0.25", network, images)
    sparsified = attribution("sparsified_smoothgrad:samples=3,noise=0.2,clip=0.02,keep=0.25", network, images)
    for i in range(5):
        plain = gradient(network, images[i], TARGETS[i]).abs().flatten().numpy()
        assert_close(found[i].flatten().numpy(), keep(plain, 0.25))
        total = np.zeros_like(plain)
        for draw in range(3):
            with noise.rows(3, "x", [i]), noise.repeat(range(draw, draw + 1)):
                moved = images[i] + 0.2 * (images[i].max() - images[i].min()) * noise.normal(images[i : i + 1])[0]
            values = gradient(network, moved, TARGETS[i]).abs().flatten().numpy()
            limit = sorted(values)[-int(0.02 * len(values))]
            total += keep(np.minimum(values, limit) / limit, 0.25) / 3
        # Of equal elements, those at the clip, any may be kept; all of them are here.
        assert_close(sparsified[i].flatten().numpy(), total)


def test_a_linear_network_is_explained_by_its_weights():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double().requires_grad_(False)
    images = torch.rand(5, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = linear[1].weight[TARGETS].view_as(images)
    for text in ("gradient", "smoothgrad:samples=3", "unigrad:samples=3"):
        assert_close(attribution(text, linear, images), weights)
    # A stranger's network has mean 0, so that both spaces are one.
    for text in ("input_x_gradient", "input_x_gradient:space=pixel", "integrated_gradients:steps=3"):
        assert_close(attribution(text, linear, images), weights * images)


def test_an_image_without_a_gradient_keeps_a_zero_map():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double().requires_grad_(False)
    flat[1].weight.zero_()
    images = torch.rand(5, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for text in ("gradient", "sparse_gradient", "sparsified_smoothgrad:samples=2"):
        assert not attribution(text, flat, images).any()


def test_a_sparse_gradient_is_clipped_at_its_largest_value():
    from bench_explainers.sparsity import scale_to_rank

    values = torch.zeros(2, 1, 10, 20)
    values[0, 0, 0, 0] = 0.02
    values[1, 0, 0, :4] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    found = scale_to_rank(values, 0.01).flatten(1)
    assert found[0].count_nonzero() == 1 and found[0, 0] == 1
    torch.testing.assert_close(found[1, :5], torch.tensor([1, 1, 2 / 3, 1 / 3, 0]))


class Wrapped(nn.Module):
    """A network whose answers are not plain logits."""

    def __init__(self, wrap):
        super().__init__()
        self.network, self.wrap = tiny_network(True), wrap

    def forward(self, images):
        return self.wrap(self.network(images))


WRAPS = {
    "dict": (lambda logits: {"logits": logits}, "a dict"),
    "tuple": (lambda logits: (logits, logits), "a tuple"),
    "maps": (lambda logits: logits[:, :, None, None], r"\(\d+, 3, 1, 1\)"),
    "one number": (lambda logits: logits[:, 0], r"\(\d+,\)"),
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_network_without_plain_logits_is_named_by_every_explainer(catalog, images, wrap):
    function, form = WRAPS[wrap]
    network = Wrapped(function).eval().requires_grad_(False)
    for name, cls in catalog.of("explainer").items():
        explainer = catalog.read("explainer", f"{name}:{cls.examples[0]}".rstrip(":"))
        if name not in ("edge_map", "random_map") and not explainer.prepares:
            with pytest.raises(bench.BadComponent, match=rf"the network gives {form} for \d+ images; logits are \("):
                explainer.attributions(network, images, TARGETS)


@pytest.mark.parametrize("metric", ["insertion", "deletion"])
def test_a_network_without_plain_logits_is_named_by_metrics(images, metric):
    network = Wrapped(WRAPS["dict"][0]).eval().requires_grad_(False)
    with pytest.raises(bench.BadComponent, match="the network gives a dict for 5 images"):
        bench.component("metric", metric)(network=network, images=images, targets=TARGETS, clean_attributions=images)


@pytest.mark.parametrize("inner", ["gradient", "guided_backprop", "lrp", "smoothgrad:samples=3", "gradcam"])
def test_softened_explains_the_softplus_network_of_the_same_weights(images, inner):
    rectified, smooth = tiny_network(smooth=False), tiny_network(smooth=True)  # of the same weights
    expected = attribution(inner, smooth, images)  # its softplus has beta 3
    assert_close(attribution(f"softened:explainer=({inner}),beta=3", rectified, images), expected)
    assert not torch.allclose(attribution(inner, rectified, images), expected)
    assert_close(attribution(f"softened:explainer=({inner}),beta=8", smooth, images), expected)


def test_softened_leaves_the_predictions_that_an_attack_watches(images):
    network = tiny_network(smooth=False)
    victim = bench.Victim(network, bench.component("explainer", "softened:beta=1"))
    maps, logits = victim.both(images, TARGETS)
    assert_close(logits, network(images))
    assert_close(maps, victim.maps(images, TARGETS))


@pytest.mark.parametrize("inner", ["gradient", "relex", "gradcam:mask_rule=minmax", "expected_gradients"])
def test_softened_is_what_it_softens(inner):
    plain, wrapped = (bench.component("explainer", text) for text in (inner, f"softened:explainer=({inner})"))
    for fact in ("differentiable", "mask_rule", "prepares"):
        assert getattr(wrapped, fact) == getattr(plain, fact)
