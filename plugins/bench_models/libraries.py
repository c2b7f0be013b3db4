"""Check the names of networks from libraries, and inspect and replace their activations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import bench
from bench_models.activation import activation

# Activations between layers, which have the same names in torch and timm. Gates (sigmoid and its like) do not count.
KINKED = frozenset({"ReLU", "ReLU6", "LeakyReLU", "PReLU"})
CURVED = frozenset(
    {"SiLU", "Swish", "GELU", "GELUTanh", "QuickGELU", "Mish", "ELU", "Hardswish", "HardSwish", "HardMish"}
)
# Norms over an image's own values, which are curved whatever the activations are.
NORMS = frozenset({"Softplus", "LayerNorm", "LayerNorm2d", "GroupNorm", "GroupNorm1", "GroupNormAct"})
GATES = frozenset({"Hardsigmoid", "HardSigmoid"})
CALLS = frozenset({"relu", "relu_", "relu6", "leaky_relu", "prelu", "silu", "gelu", "mish", "elu", "hardswish"})


def check_name(
    about: str, arch: str, names: Iterable[str], weights: Callable[[str], Iterable[str]], listing: str
) -> None:
    """Raise UnknownName, with a suggestion, where a library has no such architecture, or no such weights for it.

    `weights(name)` are the names of an architecture's trained weights; NAME.WEIGHTS is a full name. `listing` is the
    call that lists the architectures, of which a library has hundreds.
    """
    names = set(names)
    name, dot, _ = arch.partition(".")
    known = {f"{name}.{tag}" for tag in weights(name)} if dot and name in names else names
    if arch not in known:
        hint = bench.suggestion(arch, known)
        if known is names and "did you mean" not in hint:
            hint = f"; {listing} lists all {len(names)}"
        raise bench.UnknownName(f"model {about} has no arch {arch!r}{hint}")


def is_smooth(name: str, build: Callable[[], nn.Module]) -> bool:
    """Say whether a network with an activation has a second derivative other than zero."""
    if name == "softplus":
        return True
    kinds = NORMS | (CURVED if name == "native" else frozenset())
    # Not on the meta device, where some constructors (regnet) fail.
    with torch.random.fork_rng(devices=[]):
        return any(type(module).__name__ in kinds for module in build().modules())


class Hardsigmoid(nn.Module):
    """torch's gate clamp(z / 6 + 1/2, 0, 1), from operations that have a second derivative."""

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs / 6 + 0.5).clamp(0, 1)


def replace_activations(
    network: nn.Module, name: str, beta: float, shape: tuple[int, int, int], about: str
) -> nn.Module:
    """Replace all activations of a network by ReLU or by softplus, in place; "native" keeps them.

    Raises BadComponent where the network calls some as functions, which cannot be replaced. A forward pass shows that.
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
            f"model {about} calls {', '.join(sorted(left))} as a function, which activation={name} cannot replace; "
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
