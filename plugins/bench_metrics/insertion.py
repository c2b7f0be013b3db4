"""Predictions while the most important pixels come first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

import bench
from bench_metrics.curves import curve, levels, named


@dataclass(frozen=True)
class Insertion(bench.Metric):
    """Probability of the class explained when the most important pixels are all that is there, mean over levels from
    none to all (Petsiuk et al., BMVC 2018; in this form Joo et al., AAAI 2023).

    "joo2023" has their code's levels, 0 to 95%: without the whole image the mean is lower. They show the label's
    probability, --target label, and of pixels at the threshold none. Undefined where a map is zero.
    """

    name = "insertion"
    better = "higher"
    help = "probability of the class while the most important pixels come first, mean over levels"
    paper = bench.Paper(
        "Towards More Robust Interpretation via Local Gradient Alignment",
        "Sunghwan Joo and Seokhyeon Jeong and Juyeon Heo and Adrian Weller and Taesup Moon",
        "AAAI",
        2023,
        "https://doi.org/10.1609/aaai.v37i7.25986",
    )
    presets: ClassVar[dict[str, str]] = {"joo2023": "steps=20,full=false"}
    examples = ("", "steps=5,full=false,fill=black")
    steps: int = bench.param(20, "levels between no pixel and all of them", low=1)
    full: bool = bench.param(True, "the level of all pixels counts as well")
    fill: Literal["mean", "black"] = bench.param(
        "mean", "what stands for pixels that are not there: the mean colour, or black"
    )

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, clean_maps: Tensor) -> bench.Levels:
        shares = levels(self.steps, self.full)
        found = curve(network, images, targets, clean_maps, shares, False, self.fill)
        return bench.Levels(found, named(shares))
