"""Train on adversarial images, and keep the direction of integrated gradients there."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench_defenses.adversary import ascend
from bench_defenses.attributions import cosine_distance, integrated_gradients


@dataclass(frozen=True)
class IGR(bench.Defense):
    """Train on adversarial images with the integrated gradient regularizer (Wang and Kong, NeurIPS 2022; their
    "AT+IGR"). The loss is CE(x') + weight (1 - cos(IG(x), IG(x'))) at an adversarial image x'.

    IG are integrated gradients of the label's logit from black, over all channels, in eval mode, so batch norm sees
    the images alone. Projected sign steps up the cross-entropy, from a random start, find x'. The gradient by the
    weights passes through both IG. A step takes `steps` passes for x', and a double backward over 2 `points` copies.
    The number of points and the weight are ours.
    """

    name = "igr"
    paper = bench.Paper(
        "Exploiting the Relationship Between Kendall's Rank Correlation and Cosine Similarity for Attribution "
        "Protection",
        "Fan Wang and Adams Wai-Kin Kong",
        "NeurIPS",
        2022,
        "https://arxiv.org/abs/2205.07279",
    )
    examples = ("steps=2,points=3",)
    weight: float = bench.param(1.0, "weight of the cosine distance", low=0)
    eps: Fraction = bench.param(Fraction(8, 255), "radius of the linf ball, in pixel units", low=0, high=1)
    steps: int = bench.param(7, "sign steps to x'", low=1)
    step: float = bench.param(0.25, "length of a step, as a share of eps", low=0)
    points: int = bench.param(10, "points of the integral", low=1)

    def train(self, fit: bench.Fit) -> nn.Module:
        ball = bench.Ball("linf", self.eps)

        def loss(network: nn.Module, batch: bench.Batch) -> Tensor:
            images, labels = batch.images, batch.labels

            def objective(moved: Tensor) -> Tensor:
                return F.cross_entropy(network(moved), labels, reduction="none")

            with fit.evaluating(network):
                moved = ascend(images, ball.sample(images), ball, self.steps, self.step, objective)
                maps = [integrated_gradients(network, each, labels, self.points) for each in (images, moved)]
            return F.cross_entropy(network(moved), labels) + self.weight * cosine_distance(*maps).mean()

        return fit.minimise(fit.fresh(), loss)
