"""How much mass a map loses to other places."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class L1Distance(bench.Metric):
    """Sum of the absolute differences of clean and attacked map, each of sum one: 0 for the same map, 2 for maps
    without a pixel in common.

    What the supplement of Wang et al. (NeurIPS 2020) prints for "cdl"; their code has `center_shift`.
    """

    name = "l1_distance"
    better = "lower"
    range = (0.0, 2.0)
    help = "sum of absolute differences of clean and attacked map, from 0 to 2"

    def __call__(self, clean_maps: Tensor, attacked_maps: Tensor) -> Tensor:
        found = (clean_maps.double() - attacked_maps.double()).abs().sum((1, 2))
        return where_defined(found, clean_maps, attacked_maps)
