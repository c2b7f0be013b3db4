"""Keeping the largest elements."""

from __future__ import annotations

from torch import Tensor


def largest(values: Tensor, share: float) -> Tensor:
    """The share of each image's elements that is largest, the others zero: (B, C, H, W) -> (B, C, H, W).

    At least one is kept. Which ones is a constant: a gradient flows through those that are kept.
    """
    flat = values.flatten(1)
    kept = flat.detach().argsort(dim=1, descending=True, stable=True)[:, : max(1, int(share * flat.shape[1]))]
    return (flat * flat.new_zeros(flat.shape).scatter_(1, kept, 1.0)).view_as(values)


def clipped(values: Tensor, share: float) -> Tensor:
    """Each image's values, clipped at the one of that rank from above and divided by it; zeros stay zeros."""
    flat = values.flatten(1)
    top = flat.sort(dim=1, descending=True).values[:, max(1, int(share * flat.shape[1])) - 1, None]
    scaled = flat.minimum(top) / top.where(top > 0, top.new_ones(()))
    return scaled.view_as(values)
