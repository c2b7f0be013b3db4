"""Flip the prediction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import bench
from bench_attacks.descent import Aim, Descent, Seen, descend
from bench_attacks.steps import steepest


@dataclass(frozen=True)
class PGD(Descent):
    """Maximise the cross-entropy of the clean image's prediction, from random starts in the ball (projected gradient
    descent; Madry et al., ICLR 2018). It aims to flip predictions: changes of maps are a side effect, and its kept rate
    is low.

    A step is 2.5 eps / steps long, so that the steps can cross a ball of any size. With the 40 steps of 0.01, in
    normalised units, of Liu et al. (2021), the result at a large eps is mostly the random start. Returns the iterate
    with the largest loss; the clean image counts as one. Gradients are those of the network itself, ReLU included.
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
            victim, images, ball, self.aim(victim, images, targets), starts, self.steps, lambda: step, None, keep=False
        )

    def aim(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Aim:
        with torch.no_grad():
            prediction = victim.logits(images).argmax(1)

        def aim(moved: Tensor) -> Seen:
            logits = victim.logits(moved)
            score = -F.cross_entropy(logits, prediction, reduction="none")
            return Seen(score, logits, score.detach())

        return aim
