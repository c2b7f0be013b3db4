"""Flip the prediction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import bench
from bench_attacks.descent import Aim, Descent, descend, steepest


@dataclass(frozen=True)
class PGD(Descent):
    """Projected gradient descent on the class (Madry et al., ICLR 2018): maximise the cross-entropy of the clean
    image's prediction, from random starts in the ball. It means to flip predictions; what it does to maps is a side
    effect, and its kept rate is low.

    Steps of 2.5 eps / steps, so that the ball can be crossed whatever its size. With the 40 steps of 0.01 of Liu et al.
    (2021), in normalised units, the iterate at a large eps is mostly the random start. Returned is the iterate of the
    largest loss, the start of the image itself included. Gradients are the network's own, ReLU included.
    """

    name = "pgd"
    paper = bench.papers.MADRY2018
    examples = ("steps=4", "steps=3,restarts=2")
    steps: int = bench.param(40, "gradient steps", low=1)
    restarts: int = bench.param(1, "random starts", low=1)

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        starts = [ball.sample(images) for _ in range(self.restarts)]
        step = steepest(ball, 2.5 / self.steps)
        return descend(
            images, ball, self.aim(victim, images, targets), starts, self.steps, lambda: step, None, keep=False
        )

    def aim(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Aim:
        with torch.no_grad():
            prediction = victim.logits(images).argmax(1)

        def aim(moved: Tensor) -> tuple[Tensor, Tensor]:
            logits = victim.logits(moved)
            return -F.cross_entropy(logits, prediction, reduction="none"), logits

        return aim
