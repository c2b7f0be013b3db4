"""Random corners of the ball: a control as coarse as sign steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

import bench
from bench import noise
from bench_attacks.candidates import chosen
from bench_attacks.topk import TopK


@dataclass(frozen=True)
class SignNoise(bench.Attack):
    """Random signs: the baseline of Ghorbani et al. (AAAI 2019) and Wang et al. (NeurIPS 2020).

    "independent" candidates each lie a random sign step of length eps away from the clean image, as the papers' text
    has it; those of a "walk" each lie one step of `step` times eps from the one before, projected, as their code does.
    One independent candidate is taken as it comes; otherwise the one is taken that is best in the objective of another
    attack among those that keep the prediction, or the clean image.
    """

    name = "sign_noise"
    examples = ("", "candidates=3,like=(topk:k=5)", "candidates=4,path=walk")
    candidates: int = bench.param(1, "draws", low=1)
    path: Literal["independent", "walk"] = bench.param("independent", "whether a draw goes on from the one before")
    step: float = bench.param(0.1, "length of a step of a walk, as a share of eps", low=0)
    like: bench.Attack = bench.param(TopK(), "the attack by whose objective a draw is chosen")

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        draws = self._draws(images, ball)
        if self.candidates == 1 and self.path == "independent":
            return next(draws)
        return chosen(victim, images, targets, self.like, draws)

    def _draws(self, images: Tensor, ball: bench.Ball) -> Iterator[Tensor]:
        length = float(ball.eps) * (self.step if self.path == "walk" else 1.0)
        moved = images
        for _ in range(self.candidates):
            start = moved if self.path == "walk" else images
            moved = ball.project(start + length * ball.steepest(noise.signs(images)), images)
            yield moved
