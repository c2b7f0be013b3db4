"""Measure how much the gradient varies over noisy copies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import bench
from bench.copies import add_gradients, gaussian


@dataclass(frozen=True)
class VarGrad(bench.Explainer):
    """Take the variance of the target logit's gradient over copies with Gaussian noise (Adebayo et al., ICLR Workshop
    2018). The variance is that of each element of the signed gradient. The noise is that of `smoothgrad`.
    """

    name = "vargrad"
    differentiable = True
    paper = bench.Paper(
        "Local Explanation Methods for Deep Neural Networks Lack Sensitivity to Parameter Values",
        "Julius Adebayo and Justin Gilmer and Ian Goodfellow and Been Kim",
        "ICLR Workshop",
        2018,
        "https://arxiv.org/abs/1810.03307",
    )
    examples = ("samples=3", "samples=4,noise=0.05")
    samples: int = bench.param(50, "noisy copies of each image", low=2)
    noise: float = bench.param(0.1, "standard deviation, as a share of the image's range", low=0)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        total = add_gradients(
            network,
            images,
            targets,
            self.samples,
            change=lambda copies: gaussian(copies, self.noise),
            each=lambda gradients: torch.cat([gradients, gradients.square()], 1),
        )
        mean, square = (total / self.samples).chunk(2, 1)
        return (square - mean.square()).clamp(min=0)
