"""Predictions while the pixels come that an attacked map says are important."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

import bench
from bench_metrics.curves import curve, levels, named


@dataclass(frozen=True)
class AdvInsertion(bench.Metric):
    """Insertion of the pixels of the clean image in the order of the attacked image's map (Joo et al., AAAI 2023): what
    an attack leaves of an explanation's worth.

    "joo2023" has their code's levels; their attack is target_map:joo2023, and the class the label.
    """

    name = "adv_insertion"
    better = "higher"
    help = "insertion of the clean image's pixels in the order of the attacked map"
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

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, attacked_maps: Tensor) -> bench.Levels:
        shares = levels(self.steps, self.full)
        found = curve(network, images, targets, attacked_maps, shares, False, self.fill)
        return bench.Levels(found, named(shares))
