"""How long the training took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bench
from bench_metrics.phases import asked


@dataclass(frozen=True)
class TrainTime(bench.Metric):
    """Wall seconds of all phases of the training, a teacher's included, on the hardware that the record names."""

    name = "train_time"
    better = "lower"
    unit = "s"
    help = "wall seconds of training"
    phase: str = bench.param("", "one phase alone, such as train; empty for all")

    def __call__(self, training: Any) -> float | bench.Undefined:
        phases = asked(training, self.phase)
        return phases if isinstance(phases, bench.Undefined) else sum(phase.seconds for phase in phases)
