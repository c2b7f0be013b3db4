"""Count how often the network is right."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench


@dataclass(frozen=True)
class Accuracy(bench.Metric):
    """Score 1 for each clean image whose predicted class is the label."""

    name = "accuracy"
    range = (0.0, 1.0)
    grain = 1.0
    help = "share of clean images classified as labelled"

    def __call__(self, clean_logits: Tensor, labels: Tensor) -> Tensor:
        return (clean_logits.argmax(1) == labels).double()
