"""Measure the curvature of the logit or the loss in all directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import bench
from bench import noise
from bench.gradients import hessian_vector_product
from bench_metrics.geometry import flat_second, loss_hessian_product


@dataclass(frozen=True)
class HessianNorm(bench.Metric):
    """Estimate the Frobenius norm of the Hessian of the class's logit by the image (Hutchinson, 1989; for explanations
    Dombrowski et al., Pattern Recognition 2022). The estimate is the root of the mean of |H v|^2 over standard normal
    vectors v.

    In pixel units. With few draws, the root is a little low on average. Refused for networks with piecewise linear
    logits, where it is zero. of=loss takes the Hessian of the cross-entropy of the class instead, which is not zero
    there but W A W^T (Wang et al., NeurIPS 2020): the Jacobian W of the logits around A = diag(p) - p p^T.
    """

    name = "hessian_norm"
    better = "lower"
    range = (0.0, None)
    help = "Frobenius norm of the Hessian by the image, of the logit or the loss"
    paper = bench.papers.DOMBROWSKI2022
    examples = ("", "draws=2", "draws=2,of=loss")
    draws: int = bench.param(20, "random vectors for each image", low=1)
    of: Literal["logit", "loss"] = bench.param("logit", "what the Hessian is of", added=True)

    def refuse(self, case: bench.Case) -> str | None:
        return flat_second(case) if self.of == "logit" else None

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, seed: int, test_data: bench.Data) -> Tensor:
        times = hessian_vector_product if self.of == "logit" else loss_hessian_product

        def norms(images: Tensor, targets: Tensor) -> Tensor:
            total = torch.zeros(len(images), dtype=torch.float64, device=images.device)
            for _ in range(self.draws):
                product = times(network, images, targets, noise.normal(images))
                total = total + product.double().square().sum((1, 2, 3))
            return (total / self.draws).sqrt()

        return bench.chunked(norms, images, targets, seed=seed, name="hessian_norm", indices=test_data.rows)
