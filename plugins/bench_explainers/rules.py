"""Rules of layer-wise relevance propagation: (relevance, *inputs) -> a relevance for each input."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Collection, Iterable

import torch
from torch import Tensor

TINY = 1e-9  # keeps a denominator from zero; so small that relevance is conserved to single precision
EPSILON = 1e-6  # of the epsilon rule, as in zennit


def total(values: Iterable[Tensor]) -> Tensor:
    """The sum of some tensors, from the first to the last."""
    return functools.reduce(operator.add, values)


def _with(function: Callable[..., Tensor], weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """A layer's function with other weights."""
    return lambda given: function(given, weight, bias)


def keep_from_zero(values: Tensor, tiny: float = TINY) -> Tensor:
    """Move denominators a little away from zero, in the direction of their sign."""
    tiny = max(tiny, torch.finfo(values.dtype).tiny)
    return values + torch.where(values < 0, -tiny, tiny)


def pass_on(relevance: Tensor, given: Tensor) -> tuple[Tensor]:
    """Give the input all relevance of the output."""
    return (relevance.sum_to_size(given.shape),)


def backward(function: Callable[[Tensor], Tensor], given: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return a linear function's value and its transpose, both with a graph iff grad mode is on."""
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        leaf = given if keep and given.requires_grad else given.detach().requires_grad_()
        value = function(leaf)

    def transpose(above: Tensor) -> Tensor:
        return torch.autograd.grad(value, leaf, above, create_graph=keep, retain_graph=True)[0]

    return (value if keep else value.detach()), transpose


def zplus(function: Callable[..., Tensor], weight: Tensor, bias: Tensor | None) -> Callable[..., tuple[Tensor]]:
    """R_i = sum_j (x_i^+ w_ij^+ + x_i^- w_ij^-) R_j / z_j with z_j the sum of these and of any b_j^+."""
    raised = None if bias is None else bias.clamp(min=0)

    def rule(relevance: Tensor, given: Tensor) -> tuple[Tensor]:
        parts = [(given.clamp(min=0), weight.clamp(min=0), raised)]
        if bool((given < 0).any()):
            parts.append((given.clamp(max=0), weight.clamp(max=0), None))
        values = [(part, *backward(_with(function, w, b), part)) for part, w, b in parts]
        share = relevance / keep_from_zero(total(value for _, value, _ in values))
        return (total(part * transpose(share) for part, _, transpose in values),)

    return rule


def share_mean(function: Callable[[Tensor], Tensor], signed: Collection[str] = ()) -> Callable[..., tuple[Tensor]]:
    """z+ for a mean, whose weights are all positive; by absolute values where, on the way back, `signed` has a name."""

    def rule(relevance: Tensor, given: Tensor) -> tuple[Tensor]:
        part = given.abs() if signed else given.clamp(min=0)
        value, transpose = backward(function, part)
        return (part * transpose(relevance / keep_from_zero(value)),)

    return rule


def epsilon(function: Callable[..., Tensor], weight: Tensor, bias: Tensor | None) -> Callable[..., tuple[Tensor]]:
    """R_i = sum_j x_i w_ij R_j / (z_j + epsilon sign z_j)."""

    def rule(relevance: Tensor, given: Tensor) -> tuple[Tensor]:
        value, transpose = backward(lambda x: function(x, weight, bias), given)
        return (given * transpose(relevance / keep_from_zero(value, EPSILON)),)

    return rule


def box(
    function: Callable[..., Tensor], weight: Tensor, bias: Tensor | None, bounds: tuple[Tensor, Tensor]
) -> Callable[..., tuple[Tensor]]:
    """R_i = sum_j (x_i w_ij - l_i w_ij^+ - h_i w_ij^-) R_j / z_j with z_j the sum of these, for l <= x <= h."""

    def rule(relevance: Tensor, given: Tensor) -> tuple[Tensor]:
        low, high = bounds
        parts = ((1, given, weight), (-1, low, weight.clamp(min=0)), (-1, high, weight.clamp(max=0)))
        values = [(factor, x, *backward(_with(function, w, None), x)) for factor, x, w in parts]
        share = relevance / keep_from_zero(total(factor * value for factor, _, value, _ in values))
        return (total(factor * x * transpose(share) for factor, x, _, transpose in values),)

    return rule


def split_sum(parts: str, signed: Collection[str] = ()) -> Callable[..., tuple[Tensor, ...]]:
    """R_o = R o / (o + s), with signed parts or positive ones.

    The latter become absolute ones where, on the way back, `signed` has a name.
    """

    def rule(relevance: Tensor, *branches: Tensor) -> tuple[Tensor, ...]:
        shares = branches if parts == "signed" else [b.abs() if signed else b.clamp(min=0) for b in branches]
        per_unit = relevance / keep_from_zero(total(shares))
        return tuple(
            (share * per_unit).sum_to_size(branch.shape) for share, branch in zip(shares, branches, strict=True)
        )

    return rule


def split_by_totals(relevance: Tensor, *branches: Tensor) -> tuple[Tensor, ...]:
    """R_o = R o / (o + s), scaled so that the totals of an image's branches are in proportion to their sizes."""
    per_unit = relevance / keep_from_zero(total(branches))
    parts = [(branch * per_unit).sum_to_size(branch.shape) for branch in branches]
    sums = [part.flatten(1).sum(1) for part in parts]
    scale = relevance.flatten(1).sum(1) / keep_from_zero(total(each.abs() for each in sums))
    return tuple(
        part * (scale * each.sign()).view(-1, *(1 for _ in part.shape[1:]))
        for part, each in zip(parts, sums, strict=True)
    )


def split_product(relevance: Tensor, *factors: Tensor) -> tuple[Tensor, ...]:
    """R_a = R_b = R / 2."""
    return tuple((relevance / 2).sum_to_size(factor.shape) for factor in factors)


def bilinear(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """R_a = a (dz/da)^T (R / 2z) and R_b likewise, for z = function(a, b) that is linear in each: half for each."""

    def rule(relevance: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        value, to_first = backward(lambda x: function(x, second), first)
        _, to_second = backward(lambda x: function(first, x), second)
        share = relevance / keep_from_zero(2 * value)
        return first * to_first(share), second * to_second(share)

    return rule


def softmax(dim: int) -> Callable[..., tuple[Tensor]]:
    """R_i = x_i (R_i - s_i sum_j R_j), the Taylor expansion of s = softmax(x) at x itself."""

    def rule(relevance: Tensor, given: Tensor) -> tuple[Tensor]:
        scores = given.where(given.isfinite(), 0)  # a mask is minus infinity
        return (scores * (relevance - given.softmax(dim) * relevance.sum(dim, keepdim=True)),)

    return rule
