"""How long the attack took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bench


@dataclass(frozen=True)
class AttackTime(bench.Metric):
    """Wall seconds of the attack on all images, on the hardware that the record names.

    Images go in chunks that fit the cache: one alone may take longer than its share.
    """

    name = "attack_time"
    better = "lower"
    unit = "s"
    range = (0.0, None)
    help = "wall seconds of the attack"

    def __call__(self, attacking: Any) -> float:
        return sum(phase.seconds for phase in attacking)
