"""Gradients that keep a graph when asked, and activations that change without a change to the network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

import bench
from bench import gradients, noise
from bench.gradients import Passes, hessian_vector_product, input_gradient, logits_and_gradient, softened

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
    "clamp": lambda x: x.clamp(min=0),
    "clamp in place": lambda x: x.clamp_(min=0),
    "clamp by a tensor": lambda x: torch.clamp(x, min=x.new_zeros(())),
    "clip": lambda x: torch.clip(x, 0),
    "clamp_min": lambda x: torch.clamp_min(x, 0),
    "clamp_max of the negative": lambda x: -(-x).clamp_max(0),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "maximum, zero first": lambda x: torch.maximum(x.new_zeros(()), x),
    "max of two": lambda x: x.max(torch.zeros_like(x)),
    "fmax": lambda x: torch.fmax(x, torch.zeros_like(x)),
    "minimum of the negative": lambda x: -torch.minimum(-x, torch.zeros_like(x)),
    "where": lambda x: torch.where(x > 0, x, 0),
    "where by name": lambda x: torch.where(condition=x >= 0, input=x, other=torch.zeros_like(x)),
    "where, negative first": lambda x: torch.where(x < 0, torch.zeros_like(x), x),
    "where as a method": lambda x: x.where(x.gt(0), torch.zeros_like(x)),
    "masked_fill": lambda x: x.masked_fill(x <= 0, 0.0),
    "masked_fill in place": lambda x: x.masked_fill_(x < 0, 0.0),
    "times a mask": lambda x: x * (x > 0),
    "times a mask of numbers": lambda x: (x.detach() > 0).to(x.dtype) * x,
    "times a mask in place": lambda x: x.mul_(x > 0),
    "threshold": nn.Threshold(0.0, 0.0),
    "threshold in place": lambda x: F.threshold_(x, 0.0, 0.0),
    "half of the sum with the absolute": lambda x: (x + x.abs()) / 2,
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


def test_maps_and_logits_keep_a_graph_iff_grad_mode_is_on(images):
    victim = bench.Victim(Formed(nn.ReLU()).double(), bench.component("explainer", "gradient"))
    for mode in (True, False):
        with torch.set_grad_enabled(mode):
            maps, logits = victim.both(images, TARGETS)
        assert (maps.requires_grad, logits.requires_grad) == (mode, mode)


KINDS = {
    "relu6": (nn.ReLU6(), lambda x: F.softplus(x, 5.0) - F.softplus(x - 6, 5.0)),
    "relu6 as a function": (F.relu6, lambda x: F.softplus(x, 5.0) - F.softplus(x - 6, 5.0)),
    "hardtanh": (nn.Hardtanh(-0.5, 0.2), lambda x: -0.5 + F.softplus(x + 0.5, 5.0) - F.softplus(x - 0.2, 5.0)),
    "leaky relu": (nn.LeakyReLU(0.3), lambda x: 0.3 * x + 0.7 * F.softplus(x, 5.0)),
    "leaky relu in place": (nn.LeakyReLU(0.3, inplace=True), lambda x: 0.3 * x + 0.7 * F.softplus(x, 5.0)),
    "leaky relu as it comes": (F.leaky_relu, lambda x: 0.01 * x + 0.99 * F.softplus(x, 5.0)),
    "prelu": (nn.PReLU(6, 0.25), lambda x: 0.25 * x + 0.75 * F.softplus(x, 5.0)),
    "rrelu": (nn.RReLU(0.1, 0.3).eval(), lambda x: 0.2 * x + 0.8 * F.softplus(x, 5.0)),
    "leaky relu as a maximum": (lambda x: torch.maximum(x, 0.3 * x), lambda x: 0.3 * x + F.softplus(0.7 * x, 5.0)),
    "leaky relu as a selection": (
        lambda x: torch.where(x > 0, x, 0.3 * x),
        lambda x: 0.3 * x + 0.7 * x * torch.sigmoid(5 * x),
    ),
    "clamp on both sides": (
        lambda x: x.clamp(-0.2, 0.2),
        lambda x: -0.2 + F.softplus(x + 0.2, 5.0) - F.softplus(x - 0.2, 5.0),
    ),
    "softshrink": (nn.Softshrink(0.1), lambda x: F.softplus(x - 0.1, 5.0) - F.softplus(-x - 0.1, 5.0)),
    "hardshrink": (
        nn.Hardshrink(0.1),
        lambda x: sum(
            sign * (F.softplus(sign * x - 0.1, 5.0) + 0.1 * torch.sigmoid(5 * (sign * x - 0.1))) for sign in (1, -1)
        ),
    ),
    "hardsigmoid": (nn.Hardsigmoid(), lambda x: (F.softplus(x + 3, 5.0) - F.softplus(x - 3, 5.0)) / 6),
    "threshold with a jump": (
        nn.Threshold(0.1, -0.2),
        lambda x: -0.2 + F.softplus(x - 0.1, 5.0) + 0.3 * torch.sigmoid(5 * (x - 0.1)),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_softened_replaces_the_kin_of_relu(kind, images):
    plain, soft = KINDS[kind]
    network, smooth = Formed(plain).double(), Formed(soft).double()
    smooth.load_state_dict(network.state_dict(), strict=False)
    with softened(5.0):
        found = input_gradient(network, images, TARGETS)
    assert_close(found, input_gradient(smooth, images, TARGETS))
    with softened(1e4):  # as sharp as the thing itself
        assert_close(input_gradient(network, images, TARGETS), input_gradient(Formed(plain).double(), images, TARGETS))


def test_a_clamp_that_changes_nothing_stays(images):
    """It guards a norm, or cuts pixels to their range."""
    form = lambda x: F.softplus(x, 3.0).clamp(min=1e-6)  # noqa: E731
    network = Formed(form).double()
    with softened(5.0):
        found = input_gradient(network, images, TARGETS)
    assert_close(found, input_gradient(network, images, TARGETS))


def test_functions_of_a_method_s_own_code_stay(images):
    with softened(5.0) as mode:
        values = (images - 0.5).clamp(min=0) + (images - 0.5).abs() + images * (images > 0.5)
    assert mode.replaced == 0
    assert torch.equal(values, (images - 0.5).clamp(min=0) + (images - 0.5).abs() + images * (images > 0.5))


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


def curved(seed=0, dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)
        )
    return network.to(dtype).eval().requires_grad_(False)


@pytest.fixture
def picture():
    with noise.rows(0, "picture", range(2)):
        return noise.uniform(torch.empty(2, 3, 4, 4, dtype=torch.float64), 0, 1)


def smooth(network, images, samples=7):
    return bench.component("explainer", f"smoothgrad:samples={samples}").maps(network, images, torch.tensor([0, 2]))


def slope(network, images, weight, inside):
    leaf = images.clone().requires_grad_()
    with noise.rows(0, "x", range(2)), softened(9.0):
        value = (smooth(network, leaf) * weight).sum()
        if inside:
            return torch.autograd.grad(value, leaf)[0]
    return torch.autograd.grad(value, leaf)[0]


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "after"])
@pytest.mark.parametrize("numbers", [96, 300, 10**6], ids=["one by one", "by threes", "at once"])
def test_two_passes_give_the_gradient_of_the_whole_graph(monkeypatch, picture, inside, numbers):
    network, weight = curved(), picture[:, 0]
    whole = slope(network, picture, weight, inside)
    monkeypatch.setitem(gradients.CHUNK, "cpu", numbers)
    chunked = slope(network, picture, weight, inside)
    assert whole.abs().max() > 0.01
    assert_close(chunked, whole, rtol=1e-10, atol=1e-12)


def test_two_passes_keep_no_more_for_more_samples(monkeypatch, picture):
    """Counted in numbers that graphs hold at once, forward and backward."""
    monkeypatch.setitem(gradients.CHUNK, "cpu", 96)
    held, most = [0], [0]

    class Held:
        def __init__(self, tensor):
            self.tensor = tensor
            held[0] += tensor.numel()
            most[0] = max(most[0], held[0])

        def __del__(self):
            held[0] -= self.tensor.numel()

    def peak(samples):
        most[0] = held[0] = 0
        with torch.autograd.graph.saved_tensors_hooks(Held, lambda kept: kept.tensor):
            leaf = picture.clone().requires_grad_()
            with softened(9.0):
                torch.autograd.grad((smooth(curved(), leaf, samples) * picture[:, 0]).sum(), leaf)
        return most[0]

    few, many = peak(4), peak(40)
    assert 0 < many <= 1.1 * few


def test_a_gradient_by_weights_keeps_the_whole_graph(monkeypatch, picture):
    found = []
    for numbers in (10**6, 96):
        monkeypatch.setitem(gradients.CHUNK, "cpu", numbers)
        network = curved().requires_grad_(True)
        with noise.rows(0, "x", range(2)), softened(9.0):
            (smooth(network, picture.clone().requires_grad_()) * picture[:, 0]).sum().backward()
        found.append([p.grad for p in network.parameters() if p.grad is not None])
    assert any(g.abs().max() > 1e-4 for g in found[0])
    assert_close(found[1], found[0], rtol=1e-10, atol=1e-12)


def test_a_backward_pass_in_another_thread_meets_the_same_noise(monkeypatch, picture):
    import threading

    monkeypatch.setitem(gradients.CHUNK, "cpu", 96)
    network, weight, found = curved(), picture[:, 0], []
    leaf = picture.clone().requires_grad_()
    with noise.rows(0, "x", range(2)), softened(9.0):
        value = (smooth(network, leaf) * weight).sum()
    thread = threading.Thread(target=lambda: found.append(torch.autograd.grad(value, leaf)[0]))
    thread.start()
    thread.join()
    assert_close(found[0], slope(network, picture, weight, False))


def test_hessian_vector_products_against_the_whole_hessian(picture):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Softplus(3), nn.Flatten(), nn.Linear(64, 3)).double()
    network.requires_grad_(False)
    targets, vectors = torch.tensor([0, 2]), picture.flip(0) - 0.5
    found = hessian_vector_product(network, picture, targets, vectors)
    for i in range(2):
        hessian = torch.autograd.functional.hessian(lambda x, i=i: network(x[None])[0, targets[i]], picture[i])
        assert_close(found[i].flatten(), hessian.reshape(48, 48) @ vectors[i].flatten())
    with torch.no_grad():
        assert not hessian_vector_product(network, picture, targets, vectors).requires_grad
    assert not hessian_vector_product(curved(), picture, targets, vectors).any()
    linear = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).double().requires_grad_(False)
    assert not hessian_vector_product(linear, picture, targets, vectors).any()


class Attending(nn.Module):
    """Attention by the fused call."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.embed, self.head = nn.Linear(12, 16), nn.Linear(16, 3)

    def forward(self, images):
        tokens = self.embed(images.flatten(2).transpose(1, 2).reshape(len(images), 4, 12))[:, None]
        return self.head(F.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0].mean(1))


def test_attention_has_a_second_derivative(picture):
    network = Attending().double().requires_grad_(False)
    leaf = picture.clone().requires_grad_()
    targets = torch.tensor([0, 1])
    assert torch.autograd.gradcheck(lambda x: input_gradient(network, x, targets), leaf)
