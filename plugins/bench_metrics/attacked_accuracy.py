"""Count how often the network is right on attacked images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench


@dataclass(frozen=True)
class AttackedAccuracy(bench.Metric):
    """Score 1 for each attacked image whose predicted class is the label."""

    name = "attacked_accuracy"
    range = (0.0, 1.0)
    grain = 1.0
    help = "share of attacked images classified as labelled"

    def __call__(self, attacked_logits: Tensor, labels: Tensor) -> Tensor:
        return (attacked_logits.argmax(1) == labels).double()
