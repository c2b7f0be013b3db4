"""Predictions while the least important pixels go first."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

import bench
from bench_metrics.curves import Curve


@dataclass(frozen=True)
class Preservation(Curve):
    """Probability of the class explained when the least important pixels are gone, mean over levels from none to all
    (in RelEx, 224 pixels a step). With all its levels it is `insertion` read backwards. Undefined where a map is zero.
    """

    name = "preservation"
    help = "probability of the class while the least important pixels go first, mean over levels"

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, clean_maps: Tensor) -> bench.Levels:
        return self.curve(network, images, targets, clean_maps, away=False, least=True)
