"""Delete the least important pixels first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

import bench
from bench_metrics.curves import Curve


@dataclass(frozen=True)
class Preservation(Curve):
    """Delete the least important pixels, and average the class's probability (Lim et al., CVPR 2021). The class is the
    one explained, and levels go from no pixel to all. With all levels, this is `insertion` read backwards. Undefined
    where a map is zero. "lim2021" takes 224 pixels a step on images of 224 by 224.
    """

    name = "preservation"
    help = "probability of the class while the least important pixels go first, mean over levels"
    paper = bench.papers.LIM2021
    presets: ClassVar[dict[str, str]] = {"lim2021": "steps=224"}

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, clean_attributions: Tensor) -> bench.Levels:
        return self.curve(network, images, targets, clean_attributions, away=False, least=True)
