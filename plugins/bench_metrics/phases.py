"""What a training cost."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import bench


@dataclass(frozen=True)
class TrainingCost(bench.Metric):
    """A cost of all phases of a training, a teacher's included, or of those of one name."""

    better = "lower"
    range = (0.0, None)
    phase: str = bench.param("", "one phase alone, such as train; empty for all")

    @abstractmethod
    def of(self, phases: list[Any]) -> float | bench.Undefined:
        """The cost of some phases, one at least."""

    def __call__(self, training: Any) -> float | bench.Undefined:
        if not training:
            return bench.Undefined("nothing was trained here")
        found = [part for part in training if self.phase in ("", part.name)]
        if not found:
            names = ", ".join(part.name for part in training)
            return bench.Undefined(f"no phase {self.phase}: this training has {names}")
        return self.of(found)
