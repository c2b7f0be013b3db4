"""Train on images of one step, and keep gradients aligned so that one step is enough."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench_defenses.adversary import ascend, losses_and_slopes


@dataclass(frozen=True)
class GradAlign(bench.Defense):
    """Keep the loss linear in a ball, so that one adversarial step is enough (Andriushchenko and Flammarion,
    NeurIPS 2020). The loss is CE(x') + weight (1 - cos(q(x), q(x + d))) with x' one sign step up the cross-entropy, the
    gradient q of an image's loss by its pixels, and d uniform in the linf ball.

    Without the cosine, one step ends in "catastrophic overfitting": the network withstands that step and no other
    attack. With start=random and step=1.25, the step is that of Wong et al. (ICLR 2020). It is taken in eval mode. Both
    gradients of the cosine have a graph, as printed; in the authors' code, q(x) is a constant, and taken where the step
    starts, and images without a gradient are left out; here their distance is 1.
    """

    name = "gradalign"
    paper = bench.Paper(
        "Understanding and Improving Fast Adversarial Training",
        "Maksym Andriushchenko and Nicolas Flammarion",
        "NeurIPS",
        2020,
        "https://arxiv.org/abs/2007.02617",
    )
    examples = ("", "start=random,step=1.25")
    weight: float = bench.param(0.2, "weight of the cosine distance", low=0)
    eps: Fraction = bench.param(Fraction(8, 255), "radius of the linf ball, in pixel units", low=0, high=1)
    start: Literal["image", "random"] = bench.param("image", "where the step starts: at the image, or in the ball")
    step: float = bench.param(1.0, "length of the step, as a share of eps", low=0)

    def train(self, fit: bench.Fit) -> nn.Module:
        ball = bench.Ball("linf", self.eps)

        def loss(network: nn.Module, batch: bench.Batch) -> Tensor:
            images, labels = batch.images, batch.labels

            def objective(moved: Tensor) -> Tensor:
                return F.cross_entropy(network(moved), labels, reduction="none")

            with fit.evaluating(network):
                start = images if self.start == "image" else ball.sample(images)
                moved = ascend(images, start, ball, 1, self.step, objective)
            places = images, ball.sample(images)
            first, second = (losses_and_slopes(network, place, labels)[1].flatten(1) for place in places)
            distance = 1 - F.cosine_similarity(first, second, dim=1).mean()
            return F.cross_entropy(network(moved), labels) + self.weight * distance

        return fit.minimise(fit.fresh(), loss)
