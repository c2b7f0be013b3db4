"""Uniform noise, which any attack has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

import bench
from bench_attacks.candidates import choose
from bench_attacks.topk import TopK


@dataclass(frozen=True)
class UniformNoise(bench.Attack):
    """Draw uniformly from the ball: a control.

    A single candidate is returned whatever it does to the prediction. Of several, the attack returns the one that is
    best by the objective of another attack among those that keep the prediction, or the clean image where none is
    better. For a fair comparison, draw as many candidates as that attack takes steps.
    """

    name = "uniform_noise"
    examples = ("", "candidates=4,like=(topk:k=5)")
    candidates: int = bench.param(1, "draws", low=1)
    like: bench.Attack = bench.param(TopK(), "the attack whose objective chooses a draw")

    @property
    def spaces(self) -> tuple[Literal["images", "parameters"], ...]:
        """The objective of another attack chooses among images alone; `worst_of_k` chooses among parameters."""
        return ("images", "parameters") if self.candidates == 1 else ("images",)

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        if self.candidates == 1:
            return ball.sample(images)
        return choose(victim, images, targets, self.like, (ball.sample(images) for _ in range(self.candidates)))
