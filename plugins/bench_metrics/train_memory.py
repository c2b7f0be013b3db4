"""How much memory the training took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bench
from bench_metrics.phases import TrainingCost


@dataclass(frozen=True)
class TrainMemory(TrainingCost):
    """The most memory that tensors took on a GPU in any phase of the training, a teacher's included."""

    name = "train_memory"
    unit = "MiB"
    help = "peak GPU memory of training"

    def of(self, phases: list[Any]) -> float | bench.Undefined:
        peaks = [phase.peak_bytes for phase in phases]
        return bench.Undefined("memory is measured on a GPU alone") if None in peaks else max(peaks) / 2**20
