"""How much memory the training took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bench
from bench_metrics.phases import asked


@dataclass(frozen=True)
class TrainMemory(bench.Metric):
    """The most memory that tensors took on a GPU in any phase of the training, a teacher's included."""

    name = "train_memory"
    better = "lower"
    unit = "MiB"
    help = "peak GPU memory of training"
    phase: str = bench.param("", "one phase alone, such as train; empty for all")

    def __call__(self, training: Any) -> float | bench.Undefined:
        phases = asked(training, self.phase)
        if isinstance(phases, bench.Undefined):
            return phases
        peaks = [phase.peak_bytes for phase in phases]
        if None in peaks:
            return bench.Undefined("memory is measured on a GPU alone")
        return max(peaks) / 2**20
