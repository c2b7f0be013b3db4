"""What a training cost."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import bench


@dataclass(frozen=True)
class TrainingCost(bench.Metric):
    """A cost of all phases of a training, those of teachers included, or of the phases with one name."""

    better = "lower"
    range = (0.0, None)
    phase: str = bench.param("", "name of a single phase, such as train; empty for all")

    @abstractmethod
    def measure(self, phases: list[Any]) -> float | bench.Undefined:
        """Return the cost of one or more phases."""

    def __call__(self, training: Any) -> float | bench.Undefined:
        if not training:
            return bench.Undefined("nothing was trained here")
        phases = [part for part in training if self.phase in ("", part.name)]
        if not phases:
            names = ", ".join(part.name for part in training)
            return bench.Undefined(f"no phase {self.phase}: this training has {names}")
        return self.measure(phases)
