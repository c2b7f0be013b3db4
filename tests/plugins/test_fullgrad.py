"""FullGrad beside a slow loop from the paper, and its sum; in float64."""

from __future__ import annotations

import pytest
import slow_explainers as slow
import torch
import torch.nn.functional as F
from bench_explainers.fullgrad import split_logit
from torch import nn
from torch.testing import assert_close

import bench

TARGETS = torch.tensor([0, 2, 1])


@pytest.fixture(params=[False, True], ids=["copied", "in place"])
def network(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [
            *(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(request.param)),
            *(nn.Conv2d(4, 5, 2), nn.ReLU(request.param), nn.Flatten(), nn.Linear(20, 3)),
        ]
        for tensor in (layers[1].running_mean, layers[1].weight.data, layers[1].bias.data):
            tensor.normal_()
        layers[1].running_var.uniform_(0.5, 2)
    made = bench.Normalised(nn.Sequential(*layers), [0.5, 0.4, 0.3], [0.25, 0.2, 0.3])
    return made.double().eval().requires_grad_(False)


@pytest.fixture
def images():
    return torch.rand(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def by_loops(layers, image, target):
    """The terms of an image in normalised space, (C, h, w) each, with biases at which the layers are zero."""
    terms = [image * slow.gradient(layers, image, target)]
    for at in (0, 1, 3):
        given = slow.forward(layers[:at], image)[-1] if at else image
        output = layers[at](given[None])[0]
        bias = layers[at](torch.zeros_like(given)[None])[0]  # both kinds of layer are affine
        terms.append(bias * slow.gradient(layers[at + 1 :], output, target))
    return terms


def test_fullgrad_beside_a_slow_loop(network, images):
    layers = [type(each)() if isinstance(each, nn.ReLU) else each for each in network.network]
    with torch.no_grad():
        found = bench.component("explainer", "fullgrad").attribute(network, images, TARGETS)
    for i, target in enumerate(TARGETS.tolist()):
        expected = torch.zeros(8, 8, dtype=torch.float64)
        for term in by_loops(layers, (images[i] - network.mean) / network.std, target):
            term = term.abs()
            for channel in (term - term.min()) / (term.max() - term.min()):
                expected += slow.resize_bilinear(channel, 8, 8)
        assert_close(found[i, 0], expected)


def test_its_terms_and_the_last_bias_add_up_to_the_logit(network, images):
    with torch.no_grad():
        total = sum(term.sum((1, 2, 3)) for term in split_logit(network, images, TARGETS))
    assert_close(total + network.network[-1].bias[TARGETS], network(images)[range(3), TARGETS])


def test_functions_count_as_layers_do(network, images):
    class Called(nn.Module):
        def forward(self, images):
            conv, norm, _, last, _, _, head = network.network
            x = F.conv2d((images - network.mean) / network.std, conv.weight, bias=conv.bias, stride=2)
            x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
            return head(torch.conv2d(x.relu(), last.weight, last.bias).relu().flatten(1))

    explainer = bench.component("explainer", "fullgrad")
    given = (network.mean.flatten(), network.std.flatten())
    with torch.no_grad():
        assert_close(
            explainer.attribute(Called(), images, TARGETS, normalisation=given),
            explainer.attribute(network, images, TARGETS),
        )
