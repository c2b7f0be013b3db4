"""Time the explainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bench


@dataclass(frozen=True)
class ExplainTime(bench.Metric):
    """Add up the wall seconds of all clean attributions. The record names the hardware.

    Images run in chunks that fit the cache, so a single one may take longer than its share.
    """

    name = "explain_time"
    better = "lower"
    unit = "s"
    range = (0.0, None)
    help = "wall seconds of explaining the clean images"

    def __call__(self, explaining: Any) -> float:
        return sum(phase.seconds for phase in explaining)
