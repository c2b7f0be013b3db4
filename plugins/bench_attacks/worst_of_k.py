"""The worst of a few random transformations."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench import noise
from bench_attacks.objectives import Against
from bench_attacks.parameters import ENGSTROM2019, Worst


@dataclass(frozen=True)
class WorstOfK(bench.Attack):
    """Draw k points from the ball of a transformation, and take the worst (worst-of-k; Engstrom et al., ICML 2019).
    Draws are uniform. The worst point leaves least of the map among those that keep the prediction.

    The paper chooses by the cross-entropy, and wants the prediction changed. Here the metric named by `against`
    chooses, on maps that move with their images. The image itself is one more candidate. Takes k + 2 maps of each
    image, and no gradient beyond theirs.
    """

    name = "worst_of_k"
    paper = ENGSTROM2019
    examples = ("k=3", "k=2,against=cosine")
    spaces = ("parameters",)
    k: int = bench.param(10, "parameters drawn for each image", low=1)
    against: Against = bench.param("topk_overlap", "the metric to lower")

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        with noise.ensured(len(images)):
            worst = Worst(victim, images, targets, ball, self.against, self.name)
            for _ in range(self.k):
                worst.offer(ball.sample(images))
        return worst.parameters
