"""From attributions to maps and masks: the reductions that attacks, metrics and pictures share."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.errors import BadValue


def reduce(attribution: Tensor) -> Tensor:
    """The map of an attribution: (B, C, H, W) -> (B, H, W), non-negative, each of sum one, or all zero."""
    summed = attribution.abs().sum(1)
    total = summed.sum((1, 2), keepdim=True)
    # Two steps and not a clamp: a tiny but proper attribution keeps its map and its gradient.
    return summed / torch.where(total > 0, total, torch.ones_like(total))


def mask(attribution: Tensor, rule: str) -> Tensor:
    """A mask in [0, 1] per image: (B, C, H, W) -> (B, 1, H, W), or unreduced under the rule "none".

    "percentile" puts the absolute sum over channels on a scale from its minimum to its 99th percentile, "minmax" on one
    from its minimum to its maximum.
    """
    if rule == "none":
        return attribution.clamp(0, 1)
    flat = attribution.abs().sum(1).flatten(1)
    low = flat.min(1, keepdim=True).values
    high = flat.quantile(0.99, 1, keepdim=True) if rule == "percentile" else flat.max(1, keepdim=True).values
    scaled = (flat - low) / torch.where(high > low, high - low, torch.ones_like(high))
    return scaled.clamp(0, 1).view(len(flat), 1, *attribution.shape[2:])


def top_pixels(maps: Tensor, k: int) -> Tensor:
    """Mark the k largest pixels of each map: (N, H, W) -> (N, H, W) bool. Of equal ones, the first in reading order.

    Raises BadValue where the maps have fewer pixels.
    """
    flat = maps.flatten(1)
    if k > flat.shape[1]:
        raise BadValue(f"k is {k}, but the maps have {flat.shape[1]} pixels; lower k")
    order = flat.argsort(dim=1, descending=True, stable=True)[:, :k]
    return torch.zeros_like(flat, dtype=torch.bool).scatter(1, order, True).view_as(maps)


def top_elements(attributions: Tensor, share: float) -> Tensor:
    """Mark the largest elements of each attribution by magnitude: (N, C, H, W) -> (N, C, H, W) bool.

    As many as a share of the elements that are not zero, and at least one. Of equal ones, the first in order.
    """
    flat = attributions.abs().flatten(1)
    count = (share * (flat > 0).sum(1)).long().clamp(min=1)
    rank = flat.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (rank < count[:, None]).view_as(attributions)
