"""B-cos networks beside slow loops from the papers, and what their contributions add up to; in float64."""

from __future__ import annotations

import math

import pytest
import torch
from bench_defenses.ensemble import MeanLogits
from torch import nn
from torch.testing import assert_close

import bench
from bench.bcos import BcosConv2d, UncenteredNorm2d
from bench.gradients import softened
from bench.testing import tiny_network
from bench.testing.fixtures import tiny_bcos_network, tiny_images


def numbers(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def build(text, classes=3, seed=0):
    """A network in eval mode whose batch norms have seen numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = bench.component("model", text).build((3, 8, 8), classes).double()
        with torch.no_grad():
            network.train()(torch.rand(16, 3, 8, 8, dtype=torch.float64))
    return network.eval().requires_grad_(False)


def slow_bcos(layer, maps):
    """Each unit at each place: |cos|^(b - 1) times the product of its unit weight and its patch."""
    stride, reach, (side, _) = layer.stride[0], layer.padding[0], layer.kernel_size
    padded = nn.functional.pad(maps, (reach,) * 4)
    rows, columns = ((size + 2 * reach - side) // stride + 1 for size in maps.shape[2:])
    units = [w / w.norm() for w in layer.weight]
    output = torch.empty(len(maps), len(units) // layer.max_out, rows, columns, dtype=maps.dtype)
    for n in range(len(maps)):
        for i in range(rows):
            for j in range(columns):
                patch = padded[n, :, i * stride : i * stride + side, j * stride : j * stride + side]
                products = [float((unit * patch).sum()) for unit in units]
                for unit in range(output.shape[1]):
                    product = max(products[unit * layer.max_out : (unit + 1) * layer.max_out])
                    cosine = abs(product) / math.sqrt(float(patch.square().sum()) + 1e-6)
                    output[n, unit, i, j] = product * (cosine if layer.b == 2 else (cosine + 1e-6) ** (layer.b - 1))
    return output


@pytest.mark.parametrize(("kernel", "stride", "b", "max_out"), [(3, 1, 2.0, 1), (3, 2, 1.5, 2), (1, 2, 2.0, 2)])
def test_a_layer_beside_a_loop(kernel, stride, b, max_out):
    layer = BcosConv2d(4, 3, kernel, stride, b, max_out).double().requires_grad_(False)
    maps = numbers(2, 4, 5, 6)
    assert_close(layer(maps), slow_bcos(layer, maps), rtol=0, atol=1e-12)


def test_without_cosines_a_layer_is_a_convolution_of_unit_weights():
    layer = BcosConv2d(2, 3, 3, b=1).double().requires_grad_(False)
    units = layer.weight / layer.weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    maps = numbers(1, 2, 4, 4)
    assert_close(layer(maps), nn.functional.conv2d(maps, units, padding=1))


def test_the_norm_divides_by_the_deviation_and_is_linear_in_eval_mode():
    norm, maps = UncenteredNorm2d(2).double(), 3 + numbers(4, 2, 3, 3)
    deviations = maps.transpose(0, 1).flatten(1).std(1, correction=0)
    assert_close(norm(maps).detach(), maps / deviations[:, None, None], rtol=1e-4, atol=0)
    assert_close(norm.running_var, 0.9 + 0.1 * deviations.square())
    norm.eval()
    assert_close(norm(5 * maps), 5 * norm(maps))


@pytest.mark.parametrize("text", ["bcos", "bcos:layout=lenet", "bcos:layout=lenet,b=1.5,max_out=2"])
def test_contributions_add_up_to_the_logit_but_for_its_constant(text):
    network, targets = build(text, classes=5), torch.tensor([0, 4, 2])
    images = torch.rand(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = bench.component("explainer", "bcos").attribute(network, images, targets)
    logits = network(images).gather(1, targets[:, None])[:, 0]
    assert found.shape == images.shape
    assert_close(found.sum((1, 2, 3)), logits + math.log(4), rtol=1e-9, atol=1e-12)


def test_contributions_beside_the_weights_of_a_loop():
    """The tiny network's layers as matrices, each with its cosines at the image, multiplied one by one."""
    network = tiny_bcos_network(True, shape=(3, 5, 4))
    (image,), (target,) = tiny_images(1, (3, 5, 4))
    layers = list(network.network)[1:-1]
    maps = torch.cat([image, 1 - image])[None]
    weights = torch.eye(maps.numel(), dtype=torch.float64).view(-1, *maps.shape[1:])  # what each number alone becomes
    for layer in layers:
        if isinstance(layer, BcosConv2d):
            lengths = layer.weight.flatten(1).norm(dim=1)
            unit = layer.weight / lengths.view(-1, 1, 1, 1)
            plain = nn.functional.conv2d(maps, unit, stride=layer.stride, padding=layer.padding)
            squares = nn.functional.conv2d(
                maps.square(), torch.ones_like(unit[:1]), stride=layer.stride, padding=layer.padding
            )
            factor = plain.abs() / (squares + 1e-6).sqrt()
            weights = nn.functional.conv2d(weights, unit, stride=layer.stride, padding=layer.padding) * factor
        else:
            weights = layer(weights)
        maps = layer(maps)
    linear = weights.mean((2, 3))[:, target].view(2, *image.shape)
    expected = image * linear[0] + (1 - image) * linear[1]
    found = bench.component("explainer", "bcos").attribute(network, image[None], target[None])
    assert_close(found[0], expected, rtol=1e-9, atol=1e-15)
    assert_close(network(image[None])[0, target], expected.sum() - math.log(2))


def test_softening_changes_neither_network_nor_contributions():
    network, (images, targets) = tiny_bcos_network(True), tiny_images(2)
    explainer = bench.component("explainer", "bcos")
    with softened(5.0):
        found, logits = explainer.attribute(network, images, targets), network(images)
    assert torch.equal(found, explainer.attribute(network, images, targets))
    assert torch.equal(logits, network(images))


def test_an_ensemble_has_the_mean_of_the_contributions():
    networks, (images, targets) = [tiny_bcos_network(True, seed=seed) for seed in (1, 2)], tiny_images(2)
    explainer = bench.component("explainer", "bcos")
    expected = torch.stack([explainer.attribute(network, images, targets) for network in networks]).mean(0)
    assert_close(explainer.attribute(MeanLogits(networks), images, targets), expected)


def test_binary_cross_entropy_beside_a_loop():
    network, (images, labels) = tiny_bcos_network(True), tiny_images(3)
    total = 0.0
    for row, label in zip(network(images), labels, strict=True):
        for k, logit in enumerate(row.tolist()):
            total += math.log1p(math.exp(-logit if k == label else logit)) / 9

    class Fit:
        def fresh(self):
            return network

        def minimise(self, network, loss):
            return loss(network, bench.Batch(images, labels, None, None, torch.arange(3)))

    assert float(bench.component("defense", "bce").train(Fit())) == pytest.approx(total, abs=1e-12)


def test_other_networks_and_layers_with_a_bias_are_refused():
    explainer, (images, targets) = bench.component("explainer", "bcos"), tiny_images(1)
    with pytest.raises(bench.BadComponent, match=r"the network has no B-cos layers, .* use --model bcos, or another"):
        explainer.attribute(tiny_network(True), images, targets)
    smoothed = build("feature_smoothing:model=(bcos:layout=lenet),layer=2")
    with pytest.raises(bench.BadComponent, match="a layer of the network adds a bias, which belongs to no pixel; use"):
        explainer.attribute(smoothed, images, targets)


def test_images_too_small_to_halve_twice_are_refused():
    with pytest.raises(bench.BadComponent, match="halves images twice and needs at least 4 pixels, not 3 x 8"):
        bench.component("model", "bcos").build((3, 3, 8), 2)
