"""Train on images that an adversary perturbs."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench_defenses.adversary import ascend


@dataclass(frozen=True)
class Adversarial(bench.Defense):
    """Minimise the cross-entropy at adversarial images (Madry et al., ICLR 2018). Projected gradient steps up the
    cross-entropy, from a random start in a ball, find them.

    The adversary runs in eval mode, so batch norm sees the perturbed images once. With clean=0.5, half of the loss is
    that of the clean image, as in Wang et al. (2020). Their own adversary, with a step of 0.05 in a ball of 64 grey
    levels, is little more than noise. "wong2020" is the one step of fast adversarial training (Wong et al., ICLR 2020).
    """

    name = "adversarial"
    paper = bench.papers.MADRY2018
    presets: ClassVar[dict[str, str]] = {"wong2020": "steps=1,step=1.25"}
    examples = ("steps=2", "norm=l2,eps=1/2,step=0.36,steps=2,clean=0.5")
    norm: Literal["linf", "l2"] = bench.param("linf", "norm of the ball")
    eps: Fraction = bench.param(Fraction(8, 255), "radius of the ball, in pixel units", low=0)
    steps: int = bench.param(7, "gradient steps", low=1)
    step: float = bench.param(0.25, "length of a step, as a share of eps", low=0)
    clean: float = bench.param(0.0, "share of the clean image's loss", low=0, high=1)

    def find_problem(self) -> str | None:
        if self.norm == "linf" and self.eps > 1:
            return f"eps is {self.eps}, must be at most 1 in linf: budgets are in pixel units of [0, 1]"
        return None

    def train(self, fit: bench.Fit) -> nn.Module:
        ball = bench.Ball(self.norm, self.eps)

        def loss(network: nn.Module, batch: bench.Batch) -> Tensor:
            def objective(moved: Tensor) -> Tensor:
                return F.cross_entropy(network(moved), batch.labels, reduction="none")

            with fit.evaluating(network):
                moved = ascend(batch.images, ball.sample(batch.images), ball, self.steps, self.step, objective)
            total = (1 - self.clean) * F.cross_entropy(network(moved), batch.labels)
            return total + self.clean * F.cross_entropy(network(batch.images), batch.labels) if self.clean else total

        return fit.minimise(fit.fresh(), loss)
