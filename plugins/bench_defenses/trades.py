"""Keep predictions where an adversary cannot move them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench import noise
from bench_defenses.adversary import ascend


@dataclass(frozen=True)
class TRADES(bench.Defense):
    """Keep predictions in a ball close to that of the clean image (Zhang et al., ICML 2019, eq. 5). The loss is the
    cross-entropy of the clean image and the divergence KL(p(x) || p(x')) to the worst prediction in the ball.

    Projected gradient steps from a little noise, in eval mode, find x'. The gradient by the weights passes through both
    predictions.
    """

    name = "trades"
    paper = bench.Paper(
        "Theoretically Principled Trade-off between Robustness and Accuracy",
        "Hongyang Zhang and Yaodong Yu and Jiantao Jiao and Eric P. Xing and Laurent El Ghaoui and Michael I. Jordan",
        "ICML",
        2019,
        "https://arxiv.org/abs/1901.08573",
    )
    examples = ("steps=2", "norm=l2,eps=1/2,steps=2,weight=1")
    weight: float = bench.param(6.0, "weight of the divergence", low=0)
    norm: Literal["linf", "l2"] = bench.param("linf", "norm of the ball")
    eps: Fraction = bench.param(Fraction(8, 255), "radius of the ball, in pixel units", low=0)
    steps: int = bench.param(7, "gradient steps", low=1)
    step: float = bench.param(0.25, "length of a step, as a share of eps", low=0)

    def find_problem(self) -> str | None:
        if self.norm == "linf" and self.eps > 1:
            return f"eps is {self.eps}, must be at most 1 in linf: budgets are in pixel units of [0, 1]"
        return None

    def train(self, fit: bench.Fit) -> nn.Module:
        ball = bench.Ball(self.norm, self.eps)

        def loss(network: nn.Module, batch: bench.Batch) -> Tensor:
            with fit.evaluating(network):
                clean = network(batch.images).detach()
                start = ball.project(batch.images + 0.001 * noise.normal(batch.images), batch.images)
                moved = ascend(
                    batch.images, start, ball, self.steps, self.step, lambda moved: divergence(clean, network(moved))
                )
            logits = network(batch.images)
            return F.cross_entropy(logits, batch.labels) + self.weight * divergence(logits, network(moved)).mean()

        return fit.minimise(fit.fresh(), loss)


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return KL(p || q) between the predictions of two logits: (B, K), (B, K) -> (B,)."""
    logs = first.log_softmax(1)
    return (logs.exp() * (logs - second.log_softmax(1))).sum(1)
