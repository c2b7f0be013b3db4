"""What comparisons of maps with object masks share."""

from __future__ import annotations

import torch
from torch import Tensor

import bench

ARRAS2022 = bench.Paper(
    "CLEVR-XAI: A benchmark dataset for the ground truth evaluation of neural network explanations",
    "Leila Arras and Ahmed Osman and Wojciech Samek",
    "Information Fusion",
    2022,
    "https://arxiv.org/abs/2003.07258",
)


VOID = 0.5  # of an object mask, where the data set says neither


def off_void(maps: Tensor, masks: Tensor) -> Tensor:
    """Maps with -1, below all that a map may have, where the object mask is void: (N, H, W), (N, H, W) -> (N, H, W)."""
    return maps.where(masks != VOID, -1)


def where_present(scores: Tensor, maps: Tensor, masks: Tensor) -> Tensor:
    """Replace scores (N,) by NaN where a map is zero off what is void, or an object has no pixel."""
    present = (off_void(maps, masks).flatten(1) > 0).any(1) & (masks.flatten(1) > VOID).any(1)
    return torch.where(present, scores, torch.nan)
