"""What networks from libraries need: their activations looked at and exchanged, their names checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import bench
from bench_models.activation import activation

# What stands between layers, in torch and, by the same names, in timm. Gates (sigmoid and its like) are no such thing.
KINKED = frozenset({"ReLU", "ReLU6", "LeakyReLU", "PReLU"})
CURVED = frozenset(
    {"SiLU", "Swish", "GELU", "GELUTanh", "QuickGELU", "Mish", "ELU", "Hardswish", "HardSwish", "HardMish"}
)
# Norms over an image's own values, which are curved whatever the activations are.
NORMS = frozenset({"Softplus", "LayerNorm", "LayerNorm2d", "GroupNorm", "GroupNorm1", "GroupNormAct"})
GATES = frozenset({"Hardsigmoid", "HardSigmoid"})
CALLS = frozenset({"relu", "relu_", "relu6", "leaky_relu", "prelu", "silu", "gelu", "mish", "elu", "hardswish"})


def known(about: str, arch: str, names: Iterable[str]) -> None:
    """Raise UnknownName, with a suggestion, where a library has no such architecture."""
    names = set(names)
    if arch not in names:
        raise bench.UnknownName(f"model {about} has no arch {arch!r}{bench.suggestion(arch, names)}")


def smooth(name: str, build: Callable[[], nn.Module]) -> bool:
    """Whether the second derivative of a network under an activation is not zero: that, or a norm, is curved."""
    if name == "softplus":
        return True
    kinds = NORMS | (CURVED if name == "native" else frozenset())
    # Not on the meta device, where some constructors (regnet) cannot be run.
    with torch.random.fork_rng(devices=[]):
        return any(type(module).__name__ in kinds for module in build().modules())


class Hardsigmoid(nn.Module):
    """The gate of torch, clamp(z / 6 + 1/2, 0, 1), by operations that have a second derivative."""

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs / 6 + 0.5).clamp(0, 1)


def exchanged(network: nn.Module, name: str, beta: float, shape: tuple[int, int, int], about: str) -> nn.Module:
    """A network whose activations are all ReLU or all softplus, in place; under "native" as it was.

    Raises BadComponent where some are called as functions, and so cannot be exchanged: a forward pass shows it.
    """
    for module in list(network.modules()):
        for part, child in list(module.named_children()):
            if type(child).__name__ in GATES:
                setattr(module, part, Hardsigmoid())
            elif name != "native" and type(child).__name__ in KINKED | CURVED:
                setattr(module, part, activation(name, beta))
    if name == "native":
        return network
    training = network.training
    calls = _Calls()
    with torch.no_grad(), calls:
        network.eval()(torch.zeros(1, *shape))
    network.train(training)
    left = calls.seen - ({"relu"} if name == "relu" else set())
    if left:
        raise bench.BadComponent(
            f"model {about} calls {', '.join(sorted(left))} as a function, which activation={name} cannot exchange; "
            "use activation=native"
        )
    return network


class _Calls(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        if getattr(func, "__name__", "") in CALLS:
            self.seen.add(func.__name__)
        return func(*args, **(named or {}))
