"""Measure the memory of the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bench
from bench_metrics.phases import TrainingCost


@dataclass(frozen=True)
class TrainMemory(TrainingCost):
    """Take the largest GPU memory of tensors in any training phase. Trainings of teachers are included."""

    name = "train_memory"
    unit = "MiB"
    help = "peak GPU memory of training"

    def measure(self, phases: list[Any]) -> float | bench.Undefined:
        peaks = [phase.peak_bytes for phase in phases]
        return bench.Undefined("memory is measured on a GPU only") if None in peaks else max(peaks) / 2**20
