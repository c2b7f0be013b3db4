"""Count how often an attack keeps the prediction."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench


@dataclass(frozen=True)
class KeptRate(bench.Metric):
    """Score 1 for each image whose predicted class the attack leaves as it is."""

    name = "kept_rate"
    range = (0.0, 1.0)
    grain = 1.0
    help = "share of images whose prediction the attack keeps"

    def __call__(self, kept: Tensor) -> Tensor:
        return kept.double()
