"""Correlate maps."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class Pearson(bench.Metric):
    """Take Pearson's correlation between clean and attacked map, per image. Unrelated maps score 0, where their cosine
    is far above.

    Undefined where a map is constant. The code of Joo et al. (2023) divides by unbiased deviations, which makes it
    smaller by a factor of (P - 1) / P on P pixels.
    """

    name = "pearson"
    range = (-1.0, 1.0)
    help = "correlation between clean and attacked map"

    def __call__(self, clean_maps: Tensor, attacked_maps: Tensor) -> Tensor:
        return where_defined(pearson(clean_maps, attacked_maps), clean_maps, attacked_maps)


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Return the correlation of each pair of maps: (N, H, W), (N, H, W) -> (N,) in float64; NaN for constant maps."""
    flat = [maps.flatten(1).double() for maps in (first, second)]
    # The mean of equal numbers may be off by a rounding, which must not pass for a deviation.
    constant = [values.amax(1) == values.amin(1) for values in flat]
    a, b = (values - values.mean(1, keepdim=True) for values in flat)
    values = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return values.masked_fill(constant[0] | constant[1], float("nan"))
