"""Measure how much mass a map loses to other places."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class L1Distance(bench.Metric):
    """Add up the absolute differences between clean and attacked map. Each map sums to one: the same map scores 0, maps
    without a pixel in common score 2.

    The supplement of Wang et al. (NeurIPS 2020) prints this for "cdl"; their code has `center_shift`.
    """

    name = "l1_distance"
    better = "lower"
    range = (0.0, 2.0)
    help = "sum of absolute differences between clean and attacked map, from 0 to 2"

    def __call__(self, clean_maps: Tensor, attacked_maps: Tensor) -> Tensor:
        distances = (clean_maps.double() - attacked_maps.double()).abs().sum((1, 2))
        return where_defined(distances, clean_maps, attacked_maps)
