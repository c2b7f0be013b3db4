"""Random corners of the ball: a control as coarse as sign steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

import bench
from bench import noise
from bench_attacks.candidates import choose
from bench_attacks.topk import TopK


@dataclass(frozen=True)
class SignNoise(bench.Attack):
    """Add random signs: the baseline of Ghorbani et al. (AAAI 2019) and Wang et al. (NeurIPS 2020).

    An "independent" candidate lies one random sign step of length eps from the clean image, as in the papers' text. In
    a "walk", each candidate lies a step of `step` times eps from the one before, projected, as in their code. A single
    independent candidate is returned whatever it does. Otherwise, the attack returns the candidate that is best by the
    objective of another attack among those that keep the prediction, or the clean image.
    """

    name = "sign_noise"
    examples = ("", "candidates=3,like=(topk:k=5)", "candidates=4,path=walk")
    candidates: int = bench.param(1, "draws", low=1)
    path: Literal["independent", "walk"] = bench.param(
        "independent", "whether a draw starts from the clean image or from the draw before"
    )
    step: float = bench.param(0.1, "length of a step of a walk, as a share of eps", low=0)
    like: bench.Attack = bench.param(TopK(), "the attack whose objective chooses a draw")

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        draws = self._draw(images, ball)
        if self.candidates == 1 and self.path == "independent":
            return next(draws)
        return choose(victim, images, targets, self.like, draws)

    def _draw(self, images: Tensor, ball: bench.Ball) -> Iterator[Tensor]:
        length = ball.reach * (self.step if self.path == "walk" else 1.0)
        moved = images
        for _ in range(self.candidates):
            start = moved if self.path == "walk" else images
            moved = ball.project(start + length * ball.steepest(noise.signs(images)), images)
            yield moved
