"""Gradients that keep a graph when asked, and activations that change without a change to the network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

import bench
from bench.gradients import Passes, input_gradient, logits_and_gradient, softened

FORMS = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu in place by position": lambda x: F.relu(x, True),
    "F.relu by name": lambda x: F.relu(input=x),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
}


class Formed(nn.Module):
    """One activation, called in one form, at two places."""

    def __init__(self, form):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.form = form

    def forward(self, images):
        return self.last(self.form(self.second(self.form(self.first(images.flatten(1))))))


@pytest.fixture
def images():
    return torch.tensor([[0.1, 0.9, 0.4, 0.3], [0.7, 0.2, 0.5, 0.8]], dtype=torch.float64).view(2, 1, 2, 2)


TARGETS = torch.tensor([0, 2])


@pytest.mark.parametrize("form", FORMS)
def test_softened_replaces_relu_in_every_form(form, images):
    network = Formed(FORMS[form]).double()
    smooth = Formed(lambda x: F.softplus(x, 5.0)).double()
    smooth.load_state_dict(network.state_dict())
    leaf, other = images.clone().requires_grad_(), images.clone().requires_grad_()
    with softened(5.0) as mode:
        found = input_gradient(network, leaf, TARGETS)
    assert mode.replaced == 2
    expected = input_gradient(smooth, other, TARGETS)
    assert_close(found, expected)
    # The backward pass runs after the mode has ended.
    second = torch.autograd.grad(found.abs().sum(), leaf)[0]
    assert_close(second, torch.autograd.grad(expected.abs().sum(), other)[0])
    assert second.abs().max() > 0


def test_softened_leaves_the_network_alone_also_on_error(images):
    network = Formed(nn.ReLU()).double()
    before = network(images)
    with pytest.raises(RuntimeError, match="stop"), softened(1.0):
        assert not torch.equal(network(images), before)
        raise RuntimeError("stop")
    assert torch.equal(network(images), before)


def test_softened_leaves_other_activations_alone(images):
    network = Formed(nn.Softplus(3.0)).double()
    with softened(1.0) as mode:
        inside = network(images)
    assert mode.replaced == 0 and torch.equal(inside, network(images))


def test_a_relu_network_has_no_second_derivative(images):
    leaf = images.clone().requires_grad_()
    gradient = input_gradient(Formed(nn.ReLU()).double(), leaf, TARGETS)
    assert not torch.autograd.grad(gradient.square().sum(), leaf)[0].any()


def test_a_gradient_of_a_linear_network_is_its_weight_row():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    found = input_gradient(network, torch.rand(2, 3, 2, 2), TARGETS)
    assert_close(found.flatten(1), network[1].weight[TARGETS])


def test_a_gradient_keeps_a_graph_iff_grad_mode_is_on(images):
    network = Formed(nn.Softplus(3.0)).double()
    assert input_gradient(network, images, TARGETS).requires_grad
    with torch.no_grad():
        found = input_gradient(network, images.clone().requires_grad_(), TARGETS)
    assert not found.requires_grad
    assert_close(found, input_gradient(network, images, TARGETS).detach())


def test_a_constant_gradient_comes_with_logits_that_reach_the_weights(images):
    network = Formed(nn.Softplus(3.0)).double()
    logits, gradient = logits_and_gradient(network, images, TARGETS, graph=False)
    assert not gradient.requires_grad
    logits.sum().backward()
    expected = network.first.weight.grad.clone()
    network.zero_grad()
    network(images).sum().backward()
    assert_close(network.first.weight.grad, expected)


def test_normalisation_is_the_networks_own_or_the_identity():
    network = bench.Normalised(nn.Flatten(), [0.5, 0.4, 0.3], [0.1, 0.2, 0.3])
    mean, std = bench.normalisation(network)
    assert_close(mean.flatten(), torch.tensor([0.5, 0.4, 0.3]))
    assert_close(std.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    mean, std = bench.normalisation(nn.Linear(2, 2).double())
    assert (float(mean), float(std), std.dtype) == (0.0, 1.0, torch.float64)


def test_passes_are_counted(images):
    network = Formed(nn.Softplus(3.0)).double()
    with Passes() as passes, passes.watch(network):
        leaf = images.clone().requires_grad_()
        gradient = input_gradient(network, leaf, TARGETS)
        torch.autograd.grad(gradient.sum(), leaf)
        network(images).sum().backward()
    assert (passes.forwards, passes.backwards) == (2, 3)
    assert not network._forward_pre_hooks
