"""Networks: their layout, and what libraries' networks go through."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

import bench


def build(text, shape=(3, 64, 64), classes=7):
    return bench.component("model", text).build(shape, classes).eval()


@pytest.mark.parametrize(
    ("text", "count"), [("lenet", 1_116_970), ("resnet18_cifar", 11_173_962), ("resnet20", 269_722)]
)
def test_the_number_of_weights_is_the_papers(text, count):
    assert sum(p.numel() for p in build(text, (3, 32, 32), 10).parameters()) == count


def test_resnet20_is_he_et_als_layer_by_layer():
    """A slow form from the paper: plain functions on the state dict, the shortcut by indices."""
    network = build("resnet20", (3, 32, 32), 10)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    state = network.network.state_dict()
    images = torch.rand(2, 3, 32, 32)

    def norm(x, name):
        mean, var, weight, bias = (
            state[f"{name}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = F.relu(norm(F.conv2d((images - mean) / std, state["conv1.weight"], padding=1), "bn1"))
    for stage in (1, 2, 3):
        for block in range(3):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = F.relu(norm(F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
            inner = norm(F.conv2d(inner, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if stride == 2:
                wide = torch.zeros_like(inner)
                wide[:, x.shape[1] // 2 : x.shape[1] // 2 + x.shape[1]] = x[:, :, ::2, ::2]
                x = wide
            x = F.relu(inner + x)
    expected = x.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]
    with torch.no_grad():
        assert_close(network(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "torchvision:arch=resnet18",
        "torchvision:arch=mobilenet_v3_small",
        "timm:arch=efficientnet_b0",
        "timm:arch=vit_tiny_patch16_224",
        "torchvision:arch=mobilenet_v2",
        "torchvision:arch=squeezenet1_0",
    ],
)
def test_an_untouched_library_network_takes_an_attack(text):
    torch.manual_seed(0)
    network = build(text).requires_grad_(False)
    images = torch.rand(2, 3, 64, 64)
    explainer, attack = bench.component("explainer", "gradient"), bench.component("attack", "topk:steps=8")
    targets = network(images).argmax(1)
    moved = attack.perturb(bench.Victim(network, explainer), images, targets, bench.Ball("linf", Fraction(4, 255)))
    objective = attack.objective(bench.Victim(network, explainer), images, targets)
    with torch.no_grad():
        assert (objective(moved) < objective(images)).all()
    assert (moved - images).abs().max() <= 4 / 255 + 1e-6


@pytest.mark.parametrize(
    ("text", "smooth"),
    [
        ("torchvision:arch=squeezenet1_0", False),
        ("torchvision:arch=resnet18,activation=softplus", True),
        ("timm:arch=efficientnet_b0,activation=softplus", True),
        ("timm:arch=vit_tiny_patch16_224", True),
        ("timm:arch=vit_tiny_patch16_224,activation=relu", True),
        ("torchvision:arch=regnet_x_400mf", False),
    ],
)
def test_activations_are_exchanged_everywhere(text, smooth):
    model = bench.component("model", text)
    assert model.smooth is smooth
    network = build(text)
    kinds = {type(m).__name__ for m in network.modules()}
    if model.activation == "softplus":
        assert "Softplus" in kinds and not kinds & {"ReLU", "SiLU", "GELU"}
    with torch.no_grad():
        assert network(torch.rand(2, 3, 64, 64)).shape == (2, 7)


def test_an_activation_that_cannot_be_exchanged_is_named():
    with pytest.raises(bench.BadComponent, match="calls relu as a function, which activation=softplus cannot replace"):
        build("torchvision:arch=densenet121,activation=softplus")
    assert build("torchvision:arch=densenet121")(torch.rand(1, 3, 64, 64)).shape == (1, 7)


@pytest.mark.parametrize(
    ("text", "shape", "error", "message"),
    [
        (
            "timm:arch=resnet18x",
            (3, 32, 32),
            bench.UnknownName,
            "model timm has no arch 'resnet18x'; did you mean 'resnet18'",
        ),
        (
            "torchvision:arch=resnet-18",
            (3, 32, 32),
            bench.UnknownName,
            "torchvision has no arch 'resnet-18'; did you mean",
        ),
        ("resnet20", (1, 32, 32), bench.BadComponent, "model resnet20 needs images of three channels, not 1"),
        ("torchvision:arch=resnet18", (1, 32, 32), bench.BadComponent, "needs images of three channels, not 1"),
    ],
)
def test_what_cannot_be_built_is_said(text, shape, error, message):
    with pytest.raises(error, match=message):
        build(text, shape)
    if "arch" in text:
        with pytest.raises(bench.BadValue, match="needs arch: write"):
            bench.component("model", text.partition(":")[0])


def test_a_name_that_a_library_lacks_fails_its_cells_alone(tiny_run):
    outcome = tiny_run(model=["timm:arch=resnet18x", "lenet"], metric=["accuracy"])
    assert len(outcome.records) == 1 and "no arch 'resnet18x'; did you mean" in str(*outcome.failures.values())
