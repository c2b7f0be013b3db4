"""Measure the angle between maps."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class Cosine(bench.Metric):
    """Take the cosine between clean and attacked map, per image.

    Maps are not negative, so unrelated maps score far above 0: independent Gaussian gradients give 0.84.
    """

    name = "cosine"
    range = (0.0, 1.0)
    help = "cosine between clean and attacked map; unrelated maps score far above 0"

    def __call__(self, clean_maps: Tensor, attacked_maps: Tensor) -> Tensor:
        return where_defined(cosine(clean_maps, attacked_maps), clean_maps, attacked_maps)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine of each pair of maps: (N, H, W), (N, H, W) -> (N,) in float64; NaN where a map is zero."""
    a, b = first.flatten(1).double(), second.flatten(1).double()
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
