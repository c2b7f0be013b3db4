"""Time the attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bench


@dataclass(frozen=True)
class AttackTime(bench.Metric):
    """Add up the wall seconds of the attack on all images. The record names the hardware.

    Images run in chunks that fit the cache, so a single one may take longer than its share.
    """

    name = "attack_time"
    better = "lower"
    unit = "s"
    range = (0.0, None)
    help = "wall seconds of the attack"

    def __call__(self, attacking: Any) -> float:
        return sum(phase.seconds for phase in attacking)
