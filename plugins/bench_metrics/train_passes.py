"""How many passes the training made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bench
from bench_metrics.phases import asked


@dataclass(frozen=True)
class TrainPasses(bench.Metric):
    """Forward passes of a batch and runs of the autograd engine in all phases of the training, a teacher's included:
    the same on every machine."""

    name = "train_passes"
    better = "lower"
    unit = "passes"
    help = "forward and backward passes of training"
    phase: str = bench.param("", "one phase alone, such as train; empty for all")

    def __call__(self, training: Any) -> float | bench.Undefined:
        phases = asked(training, self.phase)
        return phases if isinstance(phases, bench.Undefined) else float(sum(p.forwards + p.backwards for p in phases))
