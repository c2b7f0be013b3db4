"""Uniform noise: what any attack has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench


@dataclass(frozen=True)
class UniformNoise(bench.Attack):
    """One uniform draw from the ball, whatever the prediction does: a control."""

    name = "uniform_noise"

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        return ball.sample(images)
