"""How long explaining took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bench


@dataclass(frozen=True)
class ExplainTime(bench.Metric):
    """Wall seconds of the clean attributions of all images, on the hardware that the record names.

    Images go in chunks that fit the cache: one alone may take longer than its share.
    """

    name = "explain_time"
    better = "lower"
    unit = "s"
    range = (0.0, None)
    help = "wall seconds of explaining the clean images"

    def __call__(self, explaining: Any) -> float:
        return sum(phase.seconds for phase in explaining)
