"""Delete the most important pixels first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

import bench
from bench import papers
from bench_metrics.curves import Curve


@dataclass(frozen=True)
class Deletion(Curve):
    """Delete the most important pixels, and average the class's probability (Petsiuk et al., BMVC 2018). The class is
    the one explained, and levels go from no pixel to all. Undefined where a map is zero. "petsiuk2018" and "lim2021"
    (of RelEx) take 224 pixels a step on images of 224 by 224.
    """

    name = "deletion"
    better = "lower"
    help = "probability of the class while the most important pixels go first, mean over levels"
    paper = papers.PETSIUK2018
    presets: ClassVar[dict[str, str]] = {"petsiuk2018": "steps=224", "lim2021": "steps=224"}

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, clean_attributions: Tensor) -> bench.Levels:
        return self.curve(network, images, targets, clean_attributions, away=True)
