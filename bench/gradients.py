"""Gradients by the image that can be differentiated again, and counts of passes."""

from __future__ import annotations

import collections
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

from bench.activations import entered_betas, softened as softened  # the latter was here in version 0.1
from bench.errors import BadValue
from bench.guard import guarded
from bench.layers import CheapSecondDerivatives
from bench.networks import check_logits, normalisation as normalisation  # the latter was here in version 0.1

# Initial number of values in a chunk's images. A CPU is slower beyond its cache: 85 images of 3 x 32 x 32, one of
# 3 x 224 x 224. A GPU needs many.
CHUNK = {"cpu": 2**18, "cuda": 2**22}


@contextlib.contextmanager
def twice_differentiable() -> Iterator[None]:
    """Inside, a forward pass has a second derivative, and a cheap one.

    Attention is made of products and a softmax, because fused kernels have no double backward; convolution and pooling
    are those of `bench.layers`.
    """
    with sdpa_kernel(SDPBackend.MATH), CheapSecondDerivatives():
        yield


plain_attention = twice_differentiable  # its name in version 0.1


@contextlib.contextmanager
def differentiating(images: Tensor) -> Iterator[Tensor]:
    """Yield images whose forward pass inside can be differentiated twice.

    They are the caller's own images where the caller wants a graph to these, else a detached leaf. The caller's
    inference mode does not reach inside.
    """
    keep = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad(), twice_differentiable():
        if images.is_inference():
            images = images.clone()
        yield images if keep and images.requires_grad else images.detach().requires_grad_()


def input_gradient(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Gradient of each target logit by its image: (B, C, H, W), (B,) -> (B, C, H, W).

    The result has a graph iff grad mode is on in the caller.
    """
    return logits_and_gradient(network, images, targets, graph=torch.is_grad_enabled())[1]


def logits_and_gradient(
    network: nn.Module, images: Tensor, targets: Tensor | None, graph: bool
) -> tuple[Tensor, Tensor]:
    """Logits (B, K) and the gradient of each target logit by its image (B, C, H, W), from one forward.

    Without targets, the logit is that of the predicted class.
    The logits have a graph iff grad mode is on. The gradient has one only if `graph` is true as well.
    """
    keep = torch.is_grad_enabled()
    with differentiating(images) as inputs, guarded(network):
        logits = network(inputs)
        scores = target_logits(logits, images, logits.argmax(1) if targets is None else targets)
        (gradient,) = torch.autograd.grad(scores.sum(), inputs, create_graph=graph and keep, retain_graph=keep)
    return (logits if keep else logits.detach()), gradient


def slope(scores: Tensor, images: Tensor) -> Tensor:
    """Gradient of each score by its image, without a graph: (B,), (B, C, H, W) -> (B, C, H, W).

    Zero where the scores do not depend on the images, as with the maps of a linear network.
    """
    if not scores.requires_grad:
        return torch.zeros_like(images)
    return torch.autograd.grad(scores.sum(), images, materialize_grads=True)[0]


def target_logits(logits: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    """The logit of each image's target: (B, K), (B, ...), (B,) -> (B,). Raises BadValue for an impossible target."""
    if targets.is_inference():
        targets = targets.clone()
    try:
        return check_logits(logits, images).gather(1, targets[:, None])[:, 0]
    except RuntimeError:
        low, high = (int(bound) for bound in targets.aminmax()) if targets.numel() else (0, -1)
        if low >= 0 and high < logits.shape[1]:
            raise
        raise BadValue(f"targets run from {low} to {high}, but the network has {logits.shape[1]} classes") from None


def hessian_vector_product(network: nn.Module, images: Tensor, targets: Tensor, vectors: Tensor) -> Tensor:
    """Hessian of each target logit by its image, times a vector: (B, C, H, W), (B,), (B, C, H, W) -> (B, C, H, W).

    The result has a graph iff grad mode is on in the caller. Zero for a network whose logits are piecewise linear.
    """
    keep = torch.is_grad_enabled()
    with differentiating(images) as inputs:
        gradient = input_gradient(network, inputs, targets)
        if not gradient.requires_grad:  # a linear network's does not
            return torch.zeros_like(images)
        (product,) = torch.autograd.grad(gradient, inputs, vectors, create_graph=keep, allow_unused=True)
    return torch.zeros_like(images) if product is None else product


def summed(network: nn.Module, images: Tensor, count: int, term: Callable[[Tensor, range], Tensor]) -> Tensor:
    """Sum of `count` terms, in chunks, where all together do not fit into memory.

    `term(images, numbers)` returns the sum of the terms with these numbers, (B, C, H, W) -> (B, C, H, W), with a graph
    iff grad mode is on, and the same at every call. A gradient by the images takes two passes: the sum without a graph,
    then the product of each chunk's Jacobian with the incoming gradient, under the same softened activations. It is
    exact and needs the memory of one chunk. Where a weight of the network requires a gradient as well, the whole graph
    is kept instead.
    """
    size = max(1, CHUNK.get(images.device.type, CHUNK["cpu"]) // images.numel())
    chunks = [range(start, min(start + size, count)) for start in range(0, count, size)]
    alone = torch.is_grad_enabled() and images.requires_grad and not any(p.requires_grad for p in network.parameters())
    if alone and len(chunks) > 1:
        return _Summed.apply(images, chunks, term)
    return functools.reduce(operator.add, (term(images, chunk) for chunk in chunks))


def iterated(
    network: nn.Module,
    images: Tensor,
    steps: int,
    average: int,
    step: Callable[[Tensor, Tensor, int], Tensor],
    start: Tensor | None = None,
) -> Tensor:
    """Mean of the last `average` of `steps` states, starting from a constant, by default zeros like the images.

    `step(images, state, number)` returns the next state, of the start's shape, with a graph iff grad mode is on, and
    the same at every call. A gradient by the images repeats the steps from last to first. It is exact and needs the
    memory of one step and of the states. Where a weight of the network requires a gradient as well, the whole graph is
    kept instead.
    """
    start = torch.zeros_like(images) if start is None else start
    if torch.is_grad_enabled() and images.requires_grad and not any(p.requires_grad for p in network.parameters()):
        return _Iterated.apply(images, start, steps, average, step)
    last = collections.deque(states(images, start, steps, step), maxlen=average)
    return functools.reduce(operator.add, last) / average


def states(
    images: Tensor, start: Tensor, steps: int, step: Callable[[Tensor, Tensor, int], Tensor]
) -> Iterator[Tensor]:
    """The states after each step."""
    state = start
    for number in range(steps):
        state = step(images, state, number)
        yield state


def _recompute(forward: contextvars.Context, function: Callable[[], Tensor]) -> Tensor:
    """Run a function that repeats a forward pass during backward, in the context of that forward.

    Backward may run in another thread, which knows neither the noise's rows nor the softened activations.
    """

    def inside() -> Tensor:
        with torch.enable_grad(), contextlib.ExitStack() as stack:
            for beta in entered_betas():
                stack.enter_context(softened(beta))
            return function()

    return forward.copy().run(inside)


class _Iterated(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        images: Tensor,
        start: Tensor,
        steps: int,
        average: int,
        step: Callable[[Tensor, Tensor, int], Tensor],
    ) -> Tensor:
        with torch.no_grad():
            reached = list(states(images, start, steps, step))
        context.save_for_backward(images, start, *reached)
        context.average, context.step = average, step
        context.around = contextvars.copy_context()
        return functools.reduce(operator.add, reached[-average:]) / average

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor) -> tuple[Tensor, None, None, None, None]:
        images, *before = context.saved_tensors
        last = len(before) - 2

        def products() -> Tensor:
            total, adjoint = torch.zeros_like(images), torch.zeros_like(above)
            for number in range(last, -1, -1):
                if number > last - context.average:
                    adjoint = adjoint + above / context.average
                leaves = images.detach().requires_grad_(), before[number].detach().requires_grad_()
                value = context.step(*leaves, number)
                part, adjoint = torch.autograd.grad(value, leaves, adjoint, materialize_grads=True)
                total = total + part
            return total

        return _recompute(context.around, products), None, None, None, None


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, images: Tensor, chunks: list[range], term: Callable[[Tensor, range], Tensor]) -> Tensor:
        context.save_for_backward(images)
        context.chunks, context.term = chunks, term
        context.around = contextvars.copy_context()
        with torch.no_grad():
            return functools.reduce(operator.add, (term(images, chunk) for chunk in chunks))

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor) -> tuple[Tensor, None, None]:
        (images,) = context.saved_tensors

        def products() -> Tensor:
            total = torch.zeros_like(images)
            for chunk in context.chunks:
                leaf = images.detach().requires_grad_()
                value = context.term(leaf, chunk)
                if value.requires_grad:
                    (part,) = torch.autograd.grad(value, leaf, above, allow_unused=True)
                    total = total if part is None else total + part
            return total

        return _recompute(context.around, products), None, None


class ThriceDifferentiable(TorchFunctionMode):
    """Inside, batch norm in train mode is computed from its parts, which have derivatives of every order.

    torch's own has two, and the gradient of a Hessian by the weights is a third.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        return (_batch_norm if func is F.batch_norm else func)(*args, **(named or {}))


def _batch_norm(
    given: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not training:
        return F.batch_norm(given, running_mean, running_var, weight, bias, training, momentum, eps)
    with torch.no_grad():  # moves the running statistics
        F.batch_norm(given, running_mean, running_var, None, None, training, momentum, eps)
    wide = given.to(torch.promote_types(given.dtype, torch.float32))
    axes = [0, *range(2, given.dim())]
    centred = wide - wide.mean(axes, keepdim=True)
    output = centred * (centred.square().mean(axes, keepdim=True) + eps).rsqrt()
    shape = (-1, *(1 for _ in given.shape[2:]))
    if weight is not None:
        output = output * weight.view(shape)
    if bias is not None:
        output = output + bias.view(shape)
    return output.to(given.dtype)


class Passes(TorchFunctionMode):
    """Counts forward passes of the networks it `watch`es, and runs of the autograd engine; one a batch each."""

    def __init__(self, tell: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.tell = tell
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
            self.tell()

        handle = network.register_forward_pre_hook(count)
        try:
            yield
        finally:
            handle.remove()
