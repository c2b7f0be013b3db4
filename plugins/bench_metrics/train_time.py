"""Time the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench_metrics.phases import TrainingCost


@dataclass(frozen=True)
class TrainTime(TrainingCost):
    """Add up the wall seconds of all training phases. Those of teachers are included. The record names the hardware."""

    name = "train_time"
    unit = "s"
    help = "wall seconds of training"

    def measure(self, phases: list[Any]) -> float:
        return sum(phase.seconds for phase in phases)
