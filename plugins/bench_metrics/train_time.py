"""How long the training took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench_metrics.phases import TrainingCost


@dataclass(frozen=True)
class TrainTime(TrainingCost):
    """Wall seconds of all phases of the training, a teacher's included, on the hardware that the record names."""

    name = "train_time"
    unit = "s"
    help = "wall seconds of training"

    def of(self, phases: list[Any]) -> float:
        return sum(phase.seconds for phase in phases)
