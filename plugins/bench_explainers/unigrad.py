"""The gradient averaged over a cube."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor, nn

import bench
from bench import noise
from bench.gradients import summed
from bench_explainers.copies import over_copies


@dataclass(frozen=True)
class UniGrad(bench.Explainer):
    """Mean of the signed gradient of the target's logit over copies with uniform noise (Wang et al., NeurIPS
    2020, there "Uniform Gradient").

    Not multiplied by the image; the authors' experiments are, for this and for SmoothGrad. Their half-width of 4 grey
    levels is that for CIFAR-10; on ImageNet they take 0.2 of the image's range.
    """

    name = "unigrad"
    differentiable = True
    paper = bench.Paper(
        "Smoothed Geometry for Robust Attribution",
        "Zifan Wang and Haofan Wang and Shakul Ramkumar and Matt Fredrikson and Piotr Mardziel and Anupam Datta",
        "NeurIPS",
        2020,
        "https://arxiv.org/abs/2006.06643",
    )
    examples = ("samples=3", "samples=4,radius=16/255")
    samples: int = bench.param(50, "noisy copies of each image", low=1)
    radius: Fraction = bench.param(Fraction(4, 255), "half-width of the noise, in pixel units", low=0, high=1)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        def term(images: Tensor, draws: range) -> Tensor:
            return over_copies(
                network, images, targets, draws, lambda copies: float(self.radius) * noise.uniform(copies)
            )

        return summed(network, images, self.samples, term) / self.samples
