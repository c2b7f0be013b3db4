"""Predictions while the most important pixels come first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

import bench
from bench_metrics.curves import Curve


@dataclass(frozen=True)
class Insertion(Curve):
    """Probability of the class explained when the most important pixels are all that is there, mean over levels from
    none to all (Petsiuk et al., BMVC 2018; in this form Joo et al., AAAI 2023).

    "joo2023" has their code's levels, 0 to 95%: without the whole image the mean is lower; "petsiuk2018" their levels
    for images of 224 pixels, from a blurred image (their area by trapezoids, which counts the ends half, aside). Joo et
    al. show the label's probability, --target label, and of pixels at the threshold none. Undefined where a map is
    zero.
    """

    name = "insertion"
    better = "higher"
    help = "probability of the class while the most important pixels come first, mean over levels"
    paper = bench.papers.JOO2023
    presets: ClassVar[dict[str, str]] = {"joo2023": "steps=20,full=false", "petsiuk2018": "steps=224,fill=blur"}

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, clean_attributions: Tensor) -> bench.Levels:
        return self.curve(network, images, targets, clean_attributions, away=False)
