"""Flip the prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

import bench
from bench_attacks.descent import Aim, Descent, Seen, descend
from bench_attacks.steps import steepest


@dataclass(frozen=True)
class PGD(Descent):
    """Maximise the cross-entropy of the clean image's prediction (projected gradient descent; Madry et al., ICLR 2018).
    Starts are drawn from the ball. It aims to flip predictions: changes of maps are a side effect, and its kept rate is
    low.

    A step is 2.5 eps / steps long, so that the steps can cross a ball of any size. Returns the iterate with the largest
    loss; the clean image counts as one. Gradients are those of the network itself, ReLU included.

    "lim2021" has the 40 steps of 0.01 of Lim et al. (2021), in units of the normalised image. They reach 0.4 there, so
    that at a larger eps the result is mostly the random start. Their budgets, from 0.07 to 8, are in these units too.
    Multiplied by 0.225, the mean deviation, 0.07, 0.1, 0.3, 1, 2 and 4 are 4/255, 6/255, 17/255, 57/255, 115/255 and
    230/255 in pixel units; 8 holds every image, as eps=1 does.
    """

    name = "pgd"
    paper = bench.papers.MADRY2018
    presets: ClassVar[dict[str, str]] = {"lim2021": "steps=40,step=0.00225"}
    examples = ("steps=4", "steps=3,restarts=2", "steps=4,step=0.01")
    steps: int = bench.param(40, "gradient steps", low=1)
    restarts: int = bench.param(1, "random starts", low=1)
    step: float = bench.param(0.0, "length of a step, in pixel units; 0 for 2.5 eps / steps", low=0, added=True)

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        starts = [ball.sample(images) for _ in range(self.restarts)]
        eps = ball.reach
        step = steepest(ball, self.step / eps if self.step and eps else 2.5 / self.steps)
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
