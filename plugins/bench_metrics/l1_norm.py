"""Measure the size of an attribution."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench


@dataclass(frozen=True)
class L1Norm(bench.Metric):
    """Add up the magnitudes of the raw clean attribution over all channels. Vanishing gradients are small here,
    whatever their maps look like."""

    name = "l1_norm"
    range = (0.0, None)
    help = "sum of the magnitudes of the raw attribution"

    def __call__(self, clean_attributions: Tensor) -> Tensor:
        return clean_attributions.double().abs().sum((1, 2, 3))
