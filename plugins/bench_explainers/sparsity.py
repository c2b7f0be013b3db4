"""Keep the largest elements."""

from __future__ import annotations

import torch
from torch import Tensor


def keep_largest(values: Tensor, share: float) -> Tensor:
    """Set all but the largest elements of each image to zero: (B, C, H, W) -> (B, C, H, W).

    Keeps a share of the elements, at least one. The choice is a constant: gradients flow through the elements kept.
    """
    flat = values.flatten(1)
    kept = flat.detach().argsort(dim=1, descending=True, stable=True)[:, : max(1, int(share * flat.shape[1]))]
    return (flat * flat.new_zeros(flat.shape).scatter_(1, kept, 1.0)).view_as(values)


def scale_to_rank(values: Tensor, share: float) -> Tensor:
    """Clip each image's values at the value of this rank from above, and divide by it; zeros stay zeros.

    Where fewer values than that are not zero, at the largest.
    """
    flat = values.flatten(1)
    ordered = flat.sort(dim=1, descending=True).values
    top = ordered[:, max(1, int(share * flat.shape[1])) - 1, None]
    top = torch.where(top > 0, top, ordered[:, :1])
    scaled = flat.minimum(top) / top.where(top > 0, top.new_ones(()))
    return scaled.view_as(values)
