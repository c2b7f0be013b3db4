"""Train on the images in a ball whose integrated gradients change most."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench_defenses.adversary import ascend
from bench_defenses.attributions import integrated_gradients, pearson_distance


@dataclass(frozen=True)
class FAR(bench.Defense):
    """Keep integrated gradients correlated across a ball (FAR; Ivankay et al., BMVC 2021). The loss is the
    cross-entropy and the largest distance d = 1 - Pearson's correlation between the integrated gradients of an image x
    and of an image x' in the ball.

    "aat" is CE(x) + weight max d. "advaat" is max (CE(x') + weight d), so it trains on adversarial images as well.
    Integrated gradients are those of the label's logit from black, over all channels, in eval mode, so batch norm sees
    the images alone. Projected sign steps from a random start find x'. In a ReLU network, whose logits have no second
    derivative, they follow the change of IG by its factor x alone. A step takes `steps` double backwards over `points`
    copies for x', and one over twice as many for the loss. Weight, steps and points are ours.
    """

    name = "far"
    paper = bench.Paper(
        "FAR: A General Framework for Attributional Robustness",
        "Adam Ivankay and Ivan Girardi and Chiara Marchiori and Pascal Frossard",
        "BMVC",
        2021,
        "https://arxiv.org/abs/2010.07393",
    )
    examples = ("steps=2,points=3", "form=advaat,steps=2,points=2")
    form: Literal["aat", "advaat"] = bench.param("aat", "whether the cross-entropy is of x or of x' (advaat)")
    weight: float = bench.param(1.0, "weight of the distance", low=0)
    eps: Fraction = bench.param(Fraction(8, 255), "radius of the linf ball, in pixel units", low=0, high=1)
    steps: int = bench.param(7, "sign steps to x'", low=1)
    step: float = bench.param(0.25, "length of a step, as a share of eps", low=0)
    points: int = bench.param(10, "points of the integral", low=1)

    def train(self, fit: bench.Fit) -> nn.Module:
        ball = bench.Ball("linf", self.eps)

        def loss(network: nn.Module, batch: bench.Batch) -> Tensor:
            images, labels = batch.images, batch.labels
            with fit.evaluating(network):
                clean = integrated_gradients(network, images, labels, self.points)
                constant = clean.detach()

                def objective(moved: Tensor) -> Tensor:
                    maps = integrated_gradients(network, moved, labels, self.points)
                    distance = pearson_distance(constant, maps)
                    if self.form == "aat":
                        return distance
                    return F.cross_entropy(network(moved), labels, reduction="none") + self.weight * distance

                moved = ascend(images, ball.sample(images), ball, self.steps, self.step, objective)
                maps = integrated_gradients(network, moved, labels, self.points)
            entropy = F.cross_entropy(network(images if self.form == "aat" else moved), labels)
            return entropy + self.weight * pearson_distance(clean, maps).mean()

        return fit.minimise(fit.fresh(), loss)
