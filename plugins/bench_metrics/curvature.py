"""Measure the steepest curvature of the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import bench
from bench import noise
from bench.gradients import differentiating, hessian_vector_product
from bench_metrics.geometry import loss_hessian_product

MOST = 100  # classes worth a backward pass each


@dataclass(frozen=True)
class Curvature(bench.Metric):
    """Take the largest magnitude of an eigenvalue of the loss's Hessian by the image (Wang et al., NeurIPS 2020,
    theorem 3). The loss is the class's cross-entropy. eps times the value bounds, to first order, how far the gradient
    of the loss moves within an l2 distance of eps, though not across the kinks of ReLU and max-pooling.

    In pixel units. Where logits are piecewise linear, the Hessian is W A W^T, with the Jacobian W of the logits and A =
    diag(p) - p p^T, and its eigenvalue comes from a matrix of classes by classes. Else, and with more than 100 classes,
    a power iteration finds it, from below: more steps come closer.
    """

    name = "curvature"
    better = "lower"
    range = (0.0, None)
    help = "largest eigenvalue, in magnitude, of the loss's Hessian by the image"
    paper = bench.papers.WANG2020
    examples = ("", "steps=5")
    steps: int = bench.param(50, "steps of the power iteration", low=1)

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, seed: int, test_data: bench.Data) -> Tensor:
        def eigenvalues(images: Tensor, targets: Tensor) -> Tensor:
            vectors = noise.normal(images)
            with torch.no_grad():
                classes = bench.check_logits(network(images), images).shape[1]
            if classes <= MOST and not hessian_vector_product(network, images, targets, vectors).any():
                return gauss_newton(network, images)
            for _ in range(self.steps):
                length = vectors.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                vectors = loss_hessian_product(network, images, targets, vectors / length.clamp(min=1e-30))
            return vectors.flatten(1).double().norm(dim=1)

        return bench.chunked(eigenvalues, images, targets, seed=seed, name=self.name, indices=test_data.rows)


def gauss_newton(network: nn.Module, images: Tensor) -> Tensor:
    """Return the largest eigenvalue of W A W^T: (B, C, H, W) -> (B,) in float64."""
    with differentiating(images.detach()) as inputs:
        logits = network(inputs)
        rows = [torch.autograd.grad(column.sum(), inputs, retain_graph=True)[0].flatten(1) for column in logits.T]
    slopes, share = torch.stack(rows, 1).double(), logits.detach().double().softmax(1)[:, :, None]
    # W A W^T is the covariance of the classes' slopes, and has the eigenvalues of the Gram matrix of its parts.
    parts = share.sqrt() * (slopes - (share * slopes).sum(1, keepdim=True))
    return torch.linalg.eigvalsh(parts @ parts.mT)[:, -1].clamp(min=0)
