"""Measure how many pixels share a map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import bench


@dataclass(frozen=True)
class Complexity(bench.Metric):
    """Take the entropy of the clean map, in nats (Bhatt et al., IJCAI 2020). It is 0 for a single pixel, and log P for
    a constant map of P pixels. Undefined where a map is zero.
    """

    name = "complexity"
    better = "lower"
    unit = "nats"
    range = (0.0, None)
    help = "entropy of the map: how many pixels share it"
    paper = bench.Paper(
        "Evaluating and Aggregating Feature-based Model Explanations",
        "Umang Bhatt and Adrian Weller and José M. F. Moura",
        "IJCAI",
        2020,
        "https://arxiv.org/abs/2005.00631",
    )

    def __call__(self, clean_maps: Tensor) -> Tensor:
        shares = clean_maps.flatten(1).double()
        # Divided again, since maps in float32 sum to one only roughly.
        return torch.special.entr(shares / shares.sum(1, keepdim=True)).sum(1)
