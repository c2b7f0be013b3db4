"""Keep the curvature of logits small."""

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
    """Penalise the Hessian of the label's logit by the normalised image (Dombrowski et al., Pattern Recognition 2022,
    as in Joo et al., 2023). The loss is the cross-entropy and the squared Frobenius norm of the Hessian H, estimated by
    |H v|^2 with one standard normal vector v for each image and step.

    The norm is squared, as in the code, and not its root. The default weight is the one selected for LeNet; for a
    ResNet-18 it is 1e-5. Too large a weight keeps the last layer from supporting any class, and leaves z+ LRP nothing
    to explain.
    """

    name = "hessian"
    paper = bench.papers.DOMBROWSKI2022
    weight: float = bench.param(0.001, "weight of the squared norm", low=0)

    def refuse(self, case: bench.Case) -> str | None:
        if not case.model.smooth:
            return f"the second derivative of {case.model} is zero; choose a smooth model, such as activation=softplus"
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
