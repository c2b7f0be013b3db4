"""Uniform noise: what any attack has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench_attacks.candidates import chosen
from bench_attacks.topk import TopK


@dataclass(frozen=True)
class UniformNoise(bench.Attack):
    """Uniform draws from the ball: a control.

    One candidate is taken as it comes, whatever the prediction does. Of more, as many as an attack looks at iterates,
    the one is taken that is best in that attack's own objective among those that keep the prediction, or the clean
    image where none does better.
    """

    name = "uniform_noise"
    examples = ("", "candidates=4,like=(topk:k=5)")
    candidates: int = bench.param(1, "draws", low=1)
    like: bench.Attack = bench.param(TopK(), "the attack by whose objective a draw is chosen")

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        if self.candidates == 1:
            return ball.sample(images)
        return chosen(victim, images, targets, self.like, (ball.sample(images) for _ in range(self.candidates)))
