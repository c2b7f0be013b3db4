"""Leave images alone, for the most that any explainer can keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

import bench


@dataclass(frozen=True)
class NoAttack(bench.Attack):
    """Return the images as they are: the ceiling of a similarity. An explainer that draws noise is compared with itself
    under fresh noise, which is the most that it can have; maps that draw none stay the same."""

    name = "no_attack"
    moves: ClassVar[bool] = False
    spaces = ("images", "parameters")

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        return ball.center(images)
