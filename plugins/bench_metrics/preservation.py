"""Predictions while the least important pixels go first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

import bench
from bench_metrics.curves import curve, levels, named


@dataclass(frozen=True)
class Preservation(bench.Metric):
    """Probability of the class explained when the least important pixels are gone, mean over levels from none to all
    (in RelEx, 224 pixels a step). With all its levels it is `insertion` read backwards. Undefined where a map is zero.
    """

    name = "preservation"
    help = "probability of the class while the least important pixels go first, mean over levels"
    examples = ("", "steps=5,full=false,fill=black")
    steps: int = bench.param(20, "levels between no pixel and all of them", low=1)
    full: bool = bench.param(True, "the level of all pixels counts as well")
    fill: Literal["mean", "black"] = bench.param(
        "mean", "what stands for pixels that are not there: the mean colour, or black"
    )

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, clean_maps: Tensor) -> bench.Levels:
        shares = levels(self.steps, self.full)
        found = curve(network, images, targets, clean_maps, [1 - share for share in shares], False, self.fill)
        return bench.Levels(found, named(shares))
