"""Count how often an attack succeeds."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench


@dataclass(frozen=True)
class SuccessRate(bench.Metric):
    """Score 1 for each image on which the attack lowered its own objective. An attack without one scores 1 where it
    changed the image at all. The other images count as unperturbed in every score.
    """

    name = "success_rate"
    better = "lower"
    range = (0.0, 1.0)
    grain = 1.0
    help = "share of images on which the attack's own objective fell"

    def __call__(self, attack_success: Tensor) -> Tensor:
        return attack_success.double()
