"""Combine preservation and deletion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

import bench
from bench_metrics.curves import FILLS, Fill, curve, levels


@dataclass(frozen=True)
class Relevance(bench.Metric):
    """Take the harmonic mean of preservation and of one minus deletion (Lim et al., CVPR 2021; their code takes the
    deletion area itself). With the area P under the preservation curve and the area D under the deletion curve, this is
    2 / (1 / P + 1 / (1 - D)). Areas are sums of trapezoids over levels from none to all. Undefined where a map is zero.

    The default has a score for each image. mean=set is the paper's: one number, from the means of P and D over all
    images where both are defined, at least as large as the mean of the scores. "lim2021" is this with 224 pixels a step
    on images of 224 by 224.
    """

    name = "relevance"
    range = (0.0, 1.0)
    help = "harmonic mean of preservation and of what deletion removes"
    paper = bench.papers.LIM2021
    presets: ClassVar[dict[str, str]] = {"lim2021": "steps=224,mean=set"}
    examples = ("", "steps=5,fill=black", "mean=set")
    steps: int = bench.param(20, "levels between no pixel and all of them", low=1)
    fill: Fill = bench.param("mean", FILLS)
    mean: Literal["image", "set"] = bench.param(
        "image", "what the harmonic mean is of: the areas of each image, or their means over the set", added=True
    )

    def __call__(
        self, network: nn.Module, images: Tensor, targets: Tensor, clean_maps: Tensor
    ) -> Tensor | float | bench.Undefined:
        given = network, images, targets, clean_maps[:, None]
        shares = levels(self.steps, True)
        kept = area(curve(*given, [1 - share for share in shares], False, self.fill))
        taken = 1 - area(curve(*given, shares, True, self.fill))
        if self.mean == "image":
            return 2 * kept * taken / (kept + taken)
        if kept.isnan().all():
            return bench.Undefined("all maps are zero")
        kept, taken = kept.nanmean(), taken.nanmean()
        return float(2 * kept * taken / (kept + taken))


def area(values: Tensor) -> Tensor:
    """Return the area under a curve with equally spaced levels, by trapezoids: (N, L) -> (N,)."""
    return (values.sum(1) - (values[:, 0] + values[:, -1]) / 2) / (values.shape[1] - 1)
