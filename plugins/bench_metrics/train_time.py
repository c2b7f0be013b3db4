"""How long the training took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bench


@dataclass(frozen=True)
class TrainTime(bench.Metric):
    """Wall seconds of all phases of the training, on the hardware that the record names."""

    name = "train_time"
    better = "lower"
    unit = "s"
    help = "wall seconds of training"

    def __call__(self, training: Any) -> float | bench.Undefined:
        if not training:
            return bench.Undefined("nothing was trained here")
        return sum(phase.seconds for phase in training)
