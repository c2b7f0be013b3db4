"""Predictions while the most important pixels go first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

import bench
from bench_metrics.curves import curve, levels, named


@dataclass(frozen=True)
class Deletion(bench.Metric):
    """Probability of the class explained when the most important pixels are gone, mean over levels from none to all
    (Petsiuk et al., BMVC 2018). Undefined where a map is zero.
    """

    name = "deletion"
    better = "lower"
    help = "probability of the class while the most important pixels go first, mean over levels"
    paper = bench.Paper(
        "RISE: Randomized Input Sampling for Explanation of Black-box Models",
        "Vitali Petsiuk and Abir Das and Kate Saenko",
        "BMVC",
        2018,
        "https://arxiv.org/abs/1806.07421",
    )
    examples = ("", "steps=5,full=false,fill=black")
    steps: int = bench.param(20, "levels between no pixel and all of them", low=1)
    full: bool = bench.param(True, "the level of all pixels counts as well")
    fill: Literal["mean", "black"] = bench.param(
        "mean", "what stands for pixels that are not there: the mean colour, or black"
    )

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, clean_maps: Tensor) -> bench.Levels:
        shares = levels(self.steps, self.full)
        found = curve(network, images, targets, clean_maps, shares, True, self.fill)
        return bench.Levels(found, named(shares))
