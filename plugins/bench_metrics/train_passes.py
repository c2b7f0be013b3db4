"""Count the passes of the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench_metrics.phases import TrainingCost


@dataclass(frozen=True)
class TrainPasses(TrainingCost):
    """Count the passes of all training phases. These are forward passes of batches and runs of the autograd engine,
    those of teachers included. The count is the same on every machine.
    """

    name = "train_passes"
    unit = "passes"
    grain = 1.0
    help = "forward and backward passes of training"

    def measure(self, phases: list[Any]) -> float:
        return float(sum(phase.forwards + phase.backwards for phase in phases))
