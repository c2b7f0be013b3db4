"""Follow predictions while squares go in the order of a map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench_metrics.curves import probability


def follow(
    network: nn.Module, images: Tensor, targets: Tensor, rank: Tensor, region: int, steps: int, empty: Tensor
) -> Tensor:
    """Return the probability of each target while the first 0, ..., steps squares show what is `empty`: (B, C, H, W),
    (B,), (B, 1, rows, columns) -> (B, steps + 1). Squares at the right and lower border may be smaller."""
    height, width = images.shape[2:]
    place = rank.repeat_interleave(region, 2).repeat_interleave(region, 3)[..., :height, :width]
    return torch.stack(
        [probability(network, torch.where(place < k, empty, images), targets) for k in range(steps + 1)], 1
    )
