"""Combine preservation and deletion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

import bench
from bench_metrics.curves import FILLS, Fill, curve, levels


@dataclass(frozen=True)
class Relevance(bench.Metric):
    """Take the harmonic mean of the area under the preservation curve and of one minus the area under the deletion
    curve, per image (Lim et al., CVPR 2021; their code takes the deletion area itself). Areas are sums of trapezoids
    over levels from none to all. Undefined where a map is zero. "lim2021" takes 224 pixels a step on images of 224 by
    224.
    """

    name = "relevance"
    range = (0.0, 1.0)
    help = "harmonic mean of preservation and of what deletion removes"
    paper = bench.papers.LIM2021
    presets: ClassVar[dict[str, str]] = {"lim2021": "steps=224"}
    examples = ("", "steps=5,fill=black")
    steps: int = bench.param(20, "levels between no pixel and all of them", low=1)
    fill: Fill = bench.param("mean", FILLS)

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, clean_maps: Tensor) -> Tensor:
        given = network, images, targets, clean_maps[:, None]
        shares = levels(self.steps, True)
        kept = area(curve(*given, [1 - share for share in shares], False, self.fill))
        taken = 1 - area(curve(*given, shares, True, self.fill))
        return 2 * kept * taken / (kept + taken)


def area(values: Tensor) -> Tensor:
    """Return the area under a curve with equally spaced levels, by trapezoids: (N, L) -> (N,)."""
    return (values.sum(1) - (values[:, 0] + values[:, -1]) / 2) / (values.shape[1] - 1)
