"""Logits with little curvature."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench import noise
from bench.gradients import ThriceDifferentiable, logits_and_gradient


@dataclass(frozen=True)
class Hessian(bench.Defense):
    """Cross-entropy and the squared Frobenius norm of the Hessian of the label's logit by the normalised image, as the
    mean of |H v|^2 over one standard normal vector v for each image and step (Dombrowski et al., Pattern Recognition
    2022, as in Joo et al., 2023).

    The square, as the code has it, and not the root. The default weight is that selected for LeNet; for a ResNet-18 it
    is 1e-5. A weight that is too large stops the last layer from speaking for any class, and leaves z+ LRP nothing.
    """

    name = "hessian"
    paper = bench.papers.DOMBROWSKI2022
    weight: float = bench.param(0.001, "weight of the squared norm", low=0)

    def refuse(self, case: bench.Case) -> str | None:
        if not case.model.smooth:
            return (
                f"the second derivative of {case.model} is zero; choose a smooth --model, such as activation=softplus"
            )
        return None

    def train(self, fit: bench.Fit) -> nn.Module:
        return fit.minimise(fit.fresh(), self.loss)

    def loss(self, network: nn.Module, batch: bench.Batch) -> Tensor:
        _, std = bench.normalisation(network)
        images = batch.images.detach().requires_grad_()
        with ThriceDifferentiable():
            logits, gradient = logits_and_gradient(network, images, batch.labels, graph=True)
        product = std * gradient * noise.normal(images)
        (rows,) = torch.autograd.grad(product.sum(), images, create_graph=True)
        return F.cross_entropy(logits, batch.labels) + self.weight * (std * rows).square().sum((1, 2, 3)).mean()
