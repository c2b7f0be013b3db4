"""Keep the slopes of all logits small."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench import noise
from bench.gradients import twice_differentiable


@dataclass(frozen=True)
class Jacobian(bench.Defense):
    """Penalise the Jacobian of the logits by the normalised image (Hoffman et al., 2019, Alg. 1). The loss is the
    cross-entropy and half the squared Frobenius norm of the Jacobian J, estimated by K |v J|^2 with K classes and a
    random unit vector v.

    A projection takes one double backward pass, whatever the number of classes. It is drawn for each image and step.
    """

    name = "jacobian"
    paper = bench.Paper(
        "Robust Learning with Jacobian Regularization",
        "Judy Hoffman and Daniel A. Roberts and Sho Yaida",
        "arXiv",
        2019,
        "https://arxiv.org/abs/1908.02729",
    )
    examples = ("", "projections=2")
    weight: float = bench.param(0.01, "weight of half the squared norm", low=0)
    projections: int = bench.param(1, "random vectors of an image", low=1)

    def train(self, fit: bench.Fit) -> nn.Module:
        return fit.minimise(fit.fresh(), self.loss)

    def loss(self, network: nn.Module, batch: bench.Batch) -> Tensor:
        _, std = bench.normalisation(network)
        images = batch.images.detach().requires_grad_()
        with twice_differentiable():
            logits = network(images)
        total = logits.new_zeros(())
        for _ in range(self.projections):
            vectors = F.normalize(noise.normal(logits), dim=1)
            (product,) = torch.autograd.grad(logits, images, vectors, create_graph=True)
            total = total + (std * product).square().sum((1, 2, 3)).mean()
        penalty = logits.shape[1] * total / self.projections
        return F.cross_entropy(logits, batch.labels) + self.weight * penalty / 2
