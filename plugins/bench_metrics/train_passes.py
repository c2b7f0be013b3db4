"""How many passes the training made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench_metrics.phases import TrainingCost


@dataclass(frozen=True)
class TrainPasses(TrainingCost):
    """Forward passes of a batch and runs of the autograd engine in all phases of the training, a teacher's included:
    the same on every machine."""

    name = "train_passes"
    unit = "passes"
    help = "forward and backward passes of training"

    def of(self, phases: list[Any]) -> float:
        return float(sum(phase.forwards + phase.backwards for phase in phases))
