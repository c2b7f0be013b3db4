"""The numerical heart: gradients by the image that can be differentiated again, softened activations, pass counts."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from bench.errors import BadValue
from bench.kinds import Normalised, checked_logits

# Numbers in a chunk's images to begin with. On a CPU more than its cache holds is slower: 85 images of 3 x 32 x 32,
# one of 3 x 224 x 224; a GPU wants many.
CHUNK = {"cpu": 2**18, "cuda": 2**22}


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
    # Fused attention has no double backward; the plain kernel gives a graph of products and a softmax, which has.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        inputs = images if keep and images.requires_grad else images.detach().requires_grad_()
        logits = network(inputs)
        scores = target_logits(logits, images, targets)
        (gradient,) = torch.autograd.grad(scores.sum(), inputs, create_graph=graph and keep, retain_graph=keep)
    return (logits if keep else logits.detach()), gradient


def target_logits(logits: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    """Each image's logit of its target: (B, K), (B, ...), (B,) -> (B,). Raises where there is none."""
    try:
        return checked_logits(logits, images).gather(1, targets[:, None])[:, 0]
    except RuntimeError:
        low, high = (int(bound) for bound in targets.aminmax()) if targets.numel() else (0, -1)
        if low >= 0 and high < logits.shape[1]:
            raise
        raise BadValue(f"targets run from {low} to {high}, the network has {logits.shape[1]} classes") from None


def hessian_vector_product(network: nn.Module, images: Tensor, targets: Tensor, vectors: Tensor) -> Tensor:
    """Hessian of each target logit by its image, times a vector: (B, C, H, W), (B,), (B, C, H, W) -> (B, C, H, W).

    The result has a graph iff grad mode is on in the caller. Zero for a network whose logits are piecewise linear.
    """
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = images if keep and images.requires_grad else images.detach().requires_grad_()
        gradient = input_gradient(network, inputs, targets)
        if not gradient.requires_grad:  # a linear network's does not
            return torch.zeros_like(images)
        (product,) = torch.autograd.grad(gradient, inputs, vectors, create_graph=keep, allow_unused=True)
    return torch.zeros_like(images) if product is None else product


def summed(network: nn.Module, images: Tensor, count: int, term: Callable[[Tensor, range], Tensor]) -> Tensor:
    """Sum of `count` terms that are too many to hold at once, in chunks: `term(images, numbers)` gives the sum of those
    with the numbers, (B, C, H, W) -> (B, C, H, W), with a graph iff grad mode is on, and the same at every call.

    A gradient by the images takes two passes: the sum without a graph, then the products of each chunk's Jacobian with
    what arrives from above, under the softened activations of the first. It is exact, in the memory of one chunk. Where
    a weight of the network asks for a gradient as well, the whole graph is kept instead.
    """
    size = max(1, CHUNK.get(images.device.type, CHUNK["cpu"]) // images.numel())
    chunks = [range(start, min(start + size, count)) for start in range(0, count, size)]
    alone = torch.is_grad_enabled() and images.requires_grad and not any(p.requires_grad for p in network.parameters())
    if alone and len(chunks) > 1:
        return _Summed.apply(images, chunks, term)
    return functools.reduce(operator.add, (term(images, chunk) for chunk in chunks))


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, images: Tensor, chunks: list[range], term: Callable[[Tensor, range], Tensor]) -> Tensor:
        context.save_for_backward(images)
        context.chunks, context.term = chunks, term
        # Backward may run in another thread, which knows neither the noise's rows nor the softened activations.
        context.around = contextvars.copy_context()
        with torch.no_grad():
            return functools.reduce(operator.add, (term(images, chunk) for chunk in chunks))

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor) -> tuple[Tensor, None, None]:
        (images,) = context.saved_tensors

        def products() -> Tensor:
            found = torch.zeros_like(images)
            with torch.enable_grad(), contextlib.ExitStack() as stack:
                for beta in _betas.get():
                    stack.enter_context(softened(beta))
                for chunk in context.chunks:
                    leaf = images.detach().requires_grad_()
                    value = context.term(leaf, chunk)
                    if value.requires_grad:
                        (part,) = torch.autograd.grad(value, leaf, above, allow_unused=True)
                        found = found if part is None else found + part
            return found

        return context.around.copy().run(products), None, None


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


_betas: contextvars.ContextVar[tuple[float, ...]] = contextvars.ContextVar("betas", default=())

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
    token = _betas.set((*_betas.get(), beta))
    try:
        with Softened(beta) as mode:
            yield mode
    finally:
        _betas.reset(token)


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
