"""Train on noisy images."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench import noise


@dataclass(frozen=True)
class GaussianNoise(bench.Defense):
    """Minimise the cross-entropy at images with Gaussian noise, which is not clipped. This is a baseline of Gong et al.
    (CVPR 2024), who do not say how strong their noise is.
    """

    name = "gaussian_noise"
    examples = ("", "sigma=0.05")
    sigma: float = bench.param(0.1, "standard deviation, in pixel units", low=0)

    def train(self, fit: bench.Fit) -> nn.Module:
        return fit.minimise(fit.fresh(), self.loss)

    def loss(self, network: nn.Module, batch: bench.Batch) -> Tensor:
        return F.cross_entropy(network(batch.images + self.sigma * noise.normal(batch.images)), batch.labels)
