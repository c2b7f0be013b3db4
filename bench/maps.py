"""From attributions to maps and masks: the reductions that attacks, metrics and pictures share."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.errors import BadValue
from bench.networks import to_float32


def reduce(attribution: Tensor) -> Tensor:
    """The map of an attribution: (B, C, H, W) -> (B, H, W), non-negative, each of sum one, or all zero.

    In float32 where the attribution is in half precision.
    """
    summed = to_float32(attribution).abs().sum(1)
    total = summed.sum((1, 2), keepdim=True)
    # Two steps and not a clamp: a tiny but proper attribution keeps its map and its gradient.
    return summed / torch.where(total > 0, total, torch.ones_like(total))


def mask(attribution: Tensor, rule: str) -> Tensor:
    """A mask in [0, 1] per image: (B, C, H, W) -> (B, 1, H, W), or unreduced under the rule "none".

    "percentile" puts the absolute sum over channels on a scale from its minimum to its 99th percentile, or to its
    maximum where the two are equal, as in sparse maps. "minmax" puts it on one from its minimum to its maximum. The
    scale of the attribution does not count; a constant one gives zeros.
    """
    if rule == "none":
        return attribution.clamp(0, 1)
    flat = to_float32(attribution).abs().sum(1).flatten(1)
    low = flat.min(1, keepdim=True).values
    high = flat.max(1, keepdim=True).values
    if rule == "percentile":
        most = flat.quantile(0.99, 1, keepdim=True)
        high = torch.where(most > low, most, high)
    scaled = (flat - low) / torch.where(high > low, high - low, torch.ones_like(high))
    return scaled.clamp(0, 1).view(len(flat), 1, *attribution.shape[2:])


def ranks(values: Tensor) -> Tensor:
    """Each value's place in its row, 0 for the largest: (N, ...) -> (N, ...). Equal values keep their order."""
    flat = values.flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view(values.shape)


def top_pixels(maps: Tensor, k: int, about: str = "") -> Tensor:
    """Mark the k largest pixels of each map: (N, H, W) -> (N, H, W) bool. Of equal ones, the first in reading order.

    Raises BadValue where the maps have fewer pixels. `about` names the caller in the message.
    """
    _check_count(maps, k, about)
    return ranks(maps) < k


def _check_count(maps: Tensor, k: int, about: str) -> None:
    pixels = maps.shape[1:].numel()
    if k > pixels:
        raise BadValue(f"{about and about + ': '}k is {k}, but the maps have {pixels} pixels; lower k")


def least_overlap(first: Tensor, second: Tensor, count: int | Tensor, about: str = "") -> Tensor:
    """How many of the first maps' largest values are among equally many of the second's, at the least: (N, ...),
    (N, ...) -> (N,). Their number is one for all maps or has one for each, (N,).

    Equal values leave it open which of them are among the largest: of all ways to break ties, in both maps, the one
    that leaves the fewest in common counts. Raises BadValue where maps have fewer pixels, as `top_pixels` does.
    """
    if isinstance(count, int):
        _check_count(first, count, about)
        count = torch.full((len(first),), count, device=first.device)
    count = count[:, None]
    (above, equal, left), (above_there, equal_there, left_there) = (
        _split_at(maps.flatten(1), count) for maps in (first, second)
    )
    # A map's open places go first where the other one has none of its largest, then to ties that the other can avoid.
    left = (left - (equal & ~above_there & ~equal_there).sum(1)).clamp(min=0)
    left_there = (left_there - (equal_there & ~above & ~equal).sum(1)).clamp(min=0)
    shared = (left + left_there - (equal & equal_there).sum(1)).clamp(min=0)
    return (above & above_there).sum(1) + shared


def _split_at(values: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which values (N, P) are surely among the `count` (N, 1) largest, which equal the last of these, and how many of
    the latter are among them (N,)."""
    last = values.sort(dim=1, descending=True).values.gather(1, count - 1)
    above = values > last
    return above, values == last, count[:, 0] - above.sum(1)


def top_elements(attributions: Tensor, share: float, of_all: bool = False) -> Tensor:
    """Mark the largest elements of each attribution by magnitude: (N, C, H, W) -> (N, C, H, W) bool.

    As many as a share of the elements that are not zero, or of all elements, and at least one. Of equal ones, the first
    in order.
    """
    sizes = attributions.abs()
    count = (share * ((sizes > 0) | of_all).sum((1, 2, 3))).long().clamp(min=1)
    return ranks(sizes) < count.view(-1, 1, 1, 1)
