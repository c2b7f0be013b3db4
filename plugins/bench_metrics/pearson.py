"""How well maps are in proportion."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class Pearson(bench.Metric):
    """Pearson's correlation of clean and attacked map, per image: 0 for unrelated maps, where the cosine is far above.

    Undefined where a map is constant. The code of Joo et al. (2023) divides by unbiased deviations, and is a factor of
    (P - 1) / P smaller on P pixels.
    """

    name = "pearson"
    range = (-1.0, 1.0)
    help = "correlation of clean and attacked map"

    def __call__(self, clean_maps: Tensor, attacked_maps: Tensor) -> Tensor:
        return where_defined(pearson(clean_maps, attacked_maps), clean_maps, attacked_maps)


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Correlation per pair of maps: (N, H, W), (N, H, W) -> (N,) in float64; NaN where one is constant."""
    flat = [maps.flatten(1).double() for maps in (first, second)]
    # The mean of equal numbers may miss them by a rounding, which must not pass for a deviation.
    constant = [values.amax(1) == values.amin(1) for values in flat]
    a, b = (values - values.mean(1, keepdim=True) for values in flat)
    found = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return found.masked_fill(constant[0] | constant[1], float("nan"))
