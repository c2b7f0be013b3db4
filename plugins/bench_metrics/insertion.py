"""Insert the most important pixels first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

import bench
from bench_metrics.curves import Curve


@dataclass(frozen=True)
class Insertion(Curve):
    """Insert the most important pixels, and average the class's probability (Petsiuk et al., BMVC 2018; in this form
    Joo et al., AAAI 2023). The class is the one explained, and levels go from no pixel to all.

    The 21 levels are those that they print. "joo2023" has the 20 of their code, 0 to 95%; without the whole image, the
    mean is lower. "petsiuk2018" has their levels for images of 224 pixels, starting from a blurred image; unlike here,
    their area by trapezoids counts the ends half. Joo et al. explain the label (--target label), and show no pixel at
    the threshold. Undefined where a map is zero.
    """

    name = "insertion"
    better = "higher"
    help = "probability of the class while the most important pixels come first, mean over levels"
    paper = bench.papers.JOO2023
    presets: ClassVar[dict[str, str]] = {"joo2023": "steps=20,full=false", "petsiuk2018": "steps=224,fill=blur"}

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, clean_attributions: Tensor) -> bench.Levels:
        return self.curve(network, images, targets, clean_attributions, away=False)
