"""The numerical heart: gradients by the image that can be differentiated again, softened activations, pass counts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bench.kinds import Normalised


def input_gradient(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Gradient of each target logit by its image: (B, C, H, W), (B,) -> (B, C, H, W).

    The result has a graph iff grad mode is on in the caller.
    """
    return logits_and_gradient(network, images, targets, graph=torch.is_grad_enabled())[1]


def logits_and_gradient(network: nn.Module, images: Tensor, targets: Tensor, graph: bool) -> tuple[Tensor, Tensor]:
    """Logits (B, K) and the gradient of each target logit by its image (B, C, H, W), from one forward.

    The logits have a graph iff grad mode is on; the gradient has one only if `graph` asks for it too, and is a
    constant otherwise.
    """
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = images if keep and images.requires_grad else images.detach().requires_grad_()
        logits = network(inputs)
        scores = logits.gather(1, targets[:, None]).sum()
        (gradient,) = torch.autograd.grad(scores, inputs, create_graph=graph and keep, retain_graph=keep)
    return (logits if keep else logits.detach()), gradient


def normalisation(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and std by which a network normalises images in [0, 1], (C, 1, 1) each; 0 and 1 for a stranger's network.

    A gradient in normalised space is std times the gradient in pixel space.
    """
    if isinstance(network, Normalised):
        return network.mean, network.std
    like = next(network.parameters(), torch.zeros(()))
    return torch.zeros((1, 1, 1), dtype=like.dtype, device=like.device), torch.ones(
        (1, 1, 1), dtype=like.dtype, device=like.device
    )


RELU = frozenset({F.relu, torch.relu, torch.Tensor.relu})
RELU_IN_PLACE = frozenset({F.relu_, torch.relu_, torch.Tensor.relu_})


class Softened(TorchFunctionMode):
    """Replaces ReLU by softplus wherever the network calls it; `replaced` counts how often that was."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.replaced = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        named = named or {}
        if func not in RELU and func not in RELU_IN_PLACE:
            return func(*args, **named)
        self.replaced += 1
        given = args[0] if args else named["input"]
        in_place = func in RELU_IN_PLACE or (args[1] if len(args) > 1 else named.get("inplace", False))
        if not in_place:
            return F.softplus(given, self.beta)
        # Softplus keeps its input for the backward pass, so it gets a copy before the original is overwritten.
        return given.copy_(F.softplus(given.clone(), self.beta))


@contextlib.contextmanager
def softened(beta: float) -> Iterator[Softened]:
    """Inside, ReLU is softplus, log(1 + exp(beta z)) / beta, in all its forms: module, function, method, in place.

    The network itself is left alone, and other activations stay as they are. A backward pass runs outside the mode:
    whatever computes a forward again in it must enter the mode again.
    """
    with Softened(beta) as mode:
        yield mode


class Passes(TorchFunctionMode):
    """Counts forward passes of networks that are `watch`ed, and runs of the autograd engine, one a batch each."""

    def __init__(self) -> None:
        super().__init__()
        self.forwards = 0
        self.backwards = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        if func is torch.autograd.grad or func is torch.Tensor.backward:
            self.backwards += 1
        return func(*args, **(named or {}))

    @contextlib.contextmanager
    def watch(self, network: nn.Module) -> Iterator[None]:
        def count(module: nn.Module, inputs: Any) -> None:
            self.forwards += 1

        handle = network.register_forward_pre_hook(count)
        try:
            yield
        finally:
            handle.remove()
