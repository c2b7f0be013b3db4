"""Train on perturbed images with perturbed weights."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

import bench
from bench_defenses.adversary import ascend


@dataclass(frozen=True)
class AWP(bench.Defense):
    """Minimise the cross-entropy at adversarial images under the worst weights nearby ("AT-AWP", Wu et al., NeurIPS
    2020, with one step of the weights). The change of each layer's weights w is size |w| g / |g| with the gradient g of
    the loss by w.

    Projected gradient steps from a random start find the images, in eval mode. As in the authors' code, weights of one
    axis do not change, such as those of batch norm, and finding the change does not move the statistics of batch norm.
    That code changes only what is called a weight; here position embeddings change as well. Its AT-AWP has a size of
    0.01 and 10 steps, its TRADES-AWP the size that is the default here.
    """

    name = "awp"
    paper = bench.Paper(
        "Adversarial Weight Perturbation Helps Robust Generalization",
        "Dongxian Wu and Shu-Tao Xia and Yisen Wang",
        "NeurIPS",
        2020,
        "https://arxiv.org/abs/2004.05884",
    )
    examples = ("steps=2", "norm=l2,eps=1/2,steps=2")
    size: float = bench.param(0.005, "length of the change, as a share of that of the weights", low=0)
    norm: Literal["linf", "l2"] = bench.param("linf", "norm of the ball of images")
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
            def objective(moved: Tensor) -> Tensor:
                return F.cross_entropy(network(moved), batch.labels, reduction="none")

            with fit.evaluating(network):
                moved = ascend(batch.images, ball.sample(batch.images), ball, self.steps, self.step, objective)
            weights = self.perturb(network, moved, batch.labels)
            return F.cross_entropy(functional_call(network, weights, (moved,)), batch.labels)

        return fit.minimise(fit.fresh(), loss)

    def perturb(self, network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the changed weights by name, with a graph to the weights."""
        weights = {name: weight for name, weight in network.named_parameters() if weight.dim() > 1}
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        loss = F.cross_entropy(functional_call(network, buffers, (images,)), labels)
        gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        return {
            name: weight + self.size * weight.detach().norm() * gradient / gradient.norm().clamp(min=1e-20)
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }
