"""Keep the loss's integrated gradients to neighbours of an image small."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench.gradients import twice_differentiable
from bench_defenses.adversary import ascend


@dataclass(frozen=True)
class IGNorm(bench.Defense):
    """Keep the integrated gradients of the loss small in a ball (IG-NORM; Chen et al., NeurIPS 2019). The loss is CE(x)
    + weight |IG(x, x')|_1 with the integrated gradients from x to the image x' in the ball where they are largest.
    "sum_norm" replaces CE(x) by CE(x').

    The search for x' and the loss use every `every`-th point of the sum. Sign steps from a random start find x'. Losses
    are means over the batch and not sums, like those of other defenses. Attributions are computed in eval mode, so
    batch norm sees the images alone. The 49.5% of Wang et al. (2020) come from three faults of their code: a norm
    summed over the batch next to a mean, two softmaxes, and overlapping batches.
    """

    name = "ig_norm"
    paper = bench.Paper(
        "Robust Attribution Regularization",
        "Jiefeng Chen and Xi Wu and Vaibhav Rastogi and Yingyu Liang and Somesh Jha",
        "NeurIPS",
        2019,
        "https://arxiv.org/abs/1905.09957",
    )
    examples = ("points=4,every=2,steps=2", "form=sum_norm,points=2,every=1,steps=1")
    weight: float = bench.param(0.1, "weight of the norm", low=0)
    form: Literal["norm", "sum_norm"] = bench.param("norm", "whether the cross-entropy is of x or of x' (sum_norm)")
    eps: Fraction = bench.param(Fraction(8, 255), "radius of the linf ball, in pixel units", low=0, high=1)
    steps: int = bench.param(7, "sign steps to x'", low=1)
    step: float = bench.param(0.25, "length of a step, as a share of eps", low=0)
    points: int = bench.param(50, "points of the sum from x to x'", low=1)
    every: int = bench.param(10, "take one of so many points", low=1)

    def find_problem(self) -> str | None:
        if self.points % self.every:
            return f"points is {self.points}, which every={self.every} does not divide; give a multiple of it"
        return None

    def train(self, fit: bench.Fit) -> nn.Module:
        ball = bench.Ball("linf", self.eps)

        def loss(network: nn.Module, batch: bench.Batch) -> Tensor:
            images, labels = batch.images, batch.labels
            with fit.evaluating(network):
                moved = ascend(
                    images,
                    ball.sample(images),
                    ball,
                    self.steps,
                    self.step,
                    lambda moved: self.norms(network, images, moved, labels),
                )
                norm = self.norms(network, images, moved, labels).mean()
            return F.cross_entropy(network(images if self.form == "norm" else moved), labels) + self.weight * norm

        return fit.minimise(fit.fresh(), loss)

    def norms(self, network: nn.Module, images: Tensor, moved: Tensor, labels: Tensor) -> Tensor:
        """Return |IG(x, x')|_1 of each image, with a graph: (B, C, H, W), (B, C, H, W), (B,) -> (B,)."""
        count = self.points // self.every
        share = torch.arange(1, count + 1, dtype=images.dtype, device=images.device) / count
        way = (moved - images)[:, None]
        copies = (images[:, None] + share.view(1, -1, 1, 1, 1) * way).flatten(0, 1)
        copies = copies if copies.requires_grad else copies.requires_grad_()
        with twice_differentiable():
            logits = network(copies)
        loss = F.cross_entropy(logits, labels.repeat_interleave(count), reduction="sum")
        (slopes,) = torch.autograd.grad(loss, copies, create_graph=True)
        return (way[:, 0] * slopes.view(len(images), count, *images.shape[1:]).mean(1)).abs().sum((1, 2, 3))
