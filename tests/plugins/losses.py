"""A panel of images, tiny networks and the losses that defenses minimise on them; in float64."""

from __future__ import annotations

import contextlib

import torch
from torch import nn
from torch.testing import assert_close

import bench
from bench import noise
from bench.testing.fixtures import tiny_data

LABELS = torch.tensor([0, 2, 1, 2])
MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.2, 0.3]
STDS = torch.tensor(STD).view(3, 1, 1).double()  # as the network holds it: rounded to single precision


def built(activation, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), activation, nn.Flatten(), nn.Linear(64, 3))
        layers[3].weight.data.mul_(4)  # predictions that are neither sure nor all the same
    return bench.Normalised(layers, MEAN, STD).double().eval()


def panel():
    images = torch.rand(4, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    attention = images.mean(1)
    return bench.Batch(images, LABELS, (attention > 0.5).double(), attention, torch.arange(4))


class Asked:
    """A fit that hands out the loss it is given."""

    data = tiny_data()

    def __init__(self, network):
        self.network, self.state, self.options = network, {}, {}

    def fresh(self):
        return self.network

    @staticmethod
    @contextlib.contextmanager
    def evaluating(network):
        yield

    def minimise(self, network, loss, **options):
        self.loss, self.options = loss, options
        return network


def loss_of(text, network, batch):
    """The loss of one step, and what it draws from."""
    fit = Asked(network)
    bench.component("defense", text).train(fit)
    with noise.rows(0, "step", range(4)):
        return fit.loss(network, batch)


def draw_panel(function):
    with noise.rows(0, "step", range(4)):
        return function()


def compare(network, found, expected):
    assert_close(found, expected, rtol=1e-8, atol=1e-12)
    gradients = [torch.autograd.grad(loss, list(network.parameters()), allow_unused=True) for loss in (found, expected)]
    for mine, other in zip(*gradients, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            assert_close(mine, other, rtol=1e-8, atol=1e-11)
    assert any(g is not None and g.abs().max() > 1e-6 for g in gradients[0])
