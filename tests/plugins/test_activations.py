"""All activations of torch.nn, as modules and as functions: an attack's gradient beside finite differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules import activation
from torch.testing import assert_close

import bench
from bench.gradients import softened

# Module: its function. Those of several inputs are no activations.
TABLE = {
    "CELU": (nn.CELU(), F.celu),
    "ELU": (nn.ELU(), F.elu),
    "GELU": (nn.GELU(), lambda z: F.gelu(z, approximate="tanh")),
    "GLU": (nn.Sequential(nn.GLU(1), nn.ZeroPad3d((0, 0, 0, 0, 0, 4))), lambda z: F.glu(torch.cat([z, z], 1), 1)),
    "Hardshrink": (nn.Hardshrink(0.2), F.hardshrink),
    "Hardsigmoid": (nn.Hardsigmoid(), F.hardsigmoid),
    "Hardswish": (nn.Hardswish(), F.hardswish),
    "Hardtanh": (nn.Hardtanh(), F.hardtanh),
    "LeakyReLU": (nn.LeakyReLU(), lambda z: F.leaky_relu(z, 0.2, inplace=True)),
    "LogSigmoid": (nn.LogSigmoid(), F.logsigmoid),
    "LogSoftmax": (nn.LogSoftmax(1), lambda z: F.log_softmax(z, 1)),
    "Mish": (nn.Mish(), F.mish),
    "PReLU": (nn.PReLU(8), lambda z: F.prelu(z, z.new_full((1,), 0.3))),
    "RReLU": (nn.RReLU(), lambda z: F.rrelu(z, 0.1, 0.2)),
    "ReLU": (nn.ReLU(), F.relu),
    "ReLU6": (nn.ReLU6(inplace=True), F.relu6),
    "SELU": (nn.SELU(), F.selu),
    "SiLU": (nn.SiLU(), F.silu),
    "Sigmoid": (nn.Sigmoid(), torch.sigmoid),
    "Softmax": (nn.Softmax(1), lambda z: F.softmax(z, 1)),
    "Softmax2d": (nn.Softmax2d(), lambda z: z.softmax(1)),
    "Softmin": (nn.Softmin(1), lambda z: F.softmin(z, 1)),
    "Softplus": (nn.Softplus(), F.softplus),
    "Softshrink": (nn.Softshrink(0.2), F.softshrink),
    "Softsign": (nn.Softsign(), F.softsign),
    "Tanh": (nn.Tanh(), torch.tanh),
    "Tanhshrink": (nn.Tanhshrink(), F.tanhshrink),
    "Threshold": (nn.Threshold(0.1, -0.3), lambda z: F.threshold(z, 0.1, -0.3)),
}
TARGETS = torch.tensor([0, 2])


def test_the_table_is_complete():
    assert set(activation.__all__) - {"MultiheadAttention"} == set(TABLE)


class Network(nn.Module):
    def __init__(self, act):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.last = nn.Linear(8 * 36, 3)
            for layer in (self.first, self.second, self.last):
                nn.init.normal_(layer.weight, std=(2 / layer.weight[0].numel()) ** 0.5)
        self.act = act
        self.double().eval().requires_grad_(False)

    def forward(self, images):
        x = self.act(self.second(self.act(self.first(4 * images - 2))))
        return self.last(x.flatten(1))


@pytest.fixture
def images():
    return torch.rand(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("form", [0, 1], ids=["module", "function"])
@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("text", ["gradient", "deeplift:baseline=black", "lrp", "guided_backprop", "gradcam"])
@pytest.mark.filterwarnings("ignore:deeplift misses the difference")  # products of branches, as it says
def test_an_attack_follows_the_gradient_of_maps(text, name, form, images):
    explainer, network = bench.component("explainer", text), Network(TABLE[name][form])
    direction = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weight = torch.rand(2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def value(images):
        with softened(20.0):
            return (explainer.maps(network, images, TARGETS) * weight).sum()

    leaf = images.clone().requires_grad_()
    try:
        (gradient,) = torch.autograd.grad(value(leaf), leaf)
    except bench.BadComponent as told:
        assert text in ("lrp", "guided_backprop") and any(
            words in str(told)
            for words in (
                "lrp has no rule for",
                "guided_backprop finds no ReLU or softplus",
                "guided_backprop has no gate",
            )
        )
        return
    step = 1e-6
    with torch.no_grad():
        slope = (value(images + step * direction) - value(images - step * direction)) / (2 * step)
    assert_close((gradient * direction).sum(), slope, rtol=1e-4, atol=1e-7)
    assert gradient.any()


def test_a_mobilenet_of_a_users_own_is_attacked():
    from fractions import Fraction

    from torchvision.models import mobilenet_v3_small

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = mobilenet_v3_small(num_classes=3).eval().requires_grad_(False)
        images = torch.rand(2, 3, 32, 32)
    victim = bench.Victim(network, bench.component("explainer", "gradient"))
    attack = bench.component("attack", "topk:k=5,steps=4")
    moved = attack.perturb(victim, images, TARGETS, bench.Ball("linf", Fraction(8, 255)))
    objective = attack.make_objective(victim, images, TARGETS)
    with torch.no_grad():
        assert (objective(moved) < objective(images)).all()


def test_without_an_attack_a_missing_second_derivative_is_named(images):
    data = bench.Data(images, TARGETS, ("a", "b", "c"))
    metric = bench.component("metric", "hessian_norm:draws=2")
    given = {"images": images, "targets": TARGETS, "seed": 0, "test_data": data}
    assert (metric(network=Network(nn.SiLU()), **given) > 0).all()
    with pytest.raises(bench.BadComponent, match="torch has no second derivative for hardsigmoid, which the"):
        metric(network=Network(nn.Hardsigmoid()), **given)
