"""The worst transformation of a grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import bench
from bench import noise
from bench_attacks.objectives import Against
from bench_attacks.parameters import ENGSTROM2019, Worst


@dataclass(frozen=True)
class GridSearch(bench.Attack):
    """Try a grid over the ball of a transformation, and take the worst point (grid search; Engstrom et al., ICML 2019).
    The grid goes from -eps to eps in each parameter. The worst point leaves least of the map among those that keep the
    prediction.

    The authors' code takes 31 angles and 5 shifts along each side, all together, and chooses by the cross-entropy. Here
    the metric named by `against` chooses, on maps that move with their images. The image itself is one more candidate.
    With v values of each of p parameters, takes v^p + 2 maps of each image, and no gradient beyond theirs.
    """

    name = "grid_search"
    paper = ENGSTROM2019
    examples = ("values=2", "values=3,against=spearman")
    spaces = ("parameters",)
    values: int = bench.param(11, "values of each parameter, at equal distances", low=2)
    against: Against = bench.param("topk_overlap", "the metric to lower")

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        with noise.ensured(len(images)):
            worst = Worst(victim, images, targets, ball, self.against, self.name)
            eps, count = float(ball.eps), worst.parameters.shape[1]
            values = torch.linspace(-eps, eps, self.values, dtype=images.dtype, device=images.device)
            for point in torch.stack(torch.meshgrid([values] * count, indexing="ij"), -1).view(-1, count):
                worst.offer(point.expand_as(worst.parameters))
        return worst.parameters
