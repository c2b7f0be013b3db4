"""Average the gradient over a cube."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor, nn

import bench
from bench import noise
from bench.copies import add_gradients


@dataclass(frozen=True)
class UniGrad(bench.Explainer):
    """Average the signed gradient of the target's logit over copies with uniform noise ("Uniform Gradient" of Wang et
    al., NeurIPS 2020).

    The mean is not multiplied by the image; in the authors' experiments it is, here and for SmoothGrad. Their
    half-width is 4 grey levels on CIFAR-10, and 0.2 of the image's range on ImageNet.
    """

    name = "unigrad"
    differentiable = True
    paper = bench.papers.WANG2020
    examples = ("samples=3", "samples=4,radius=16/255")
    samples: int = bench.param(50, "noisy copies of each image", low=1)
    radius: Fraction = bench.param(Fraction(4, 255), "half-width of the noise, in pixel units", low=0, high=1)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        radius = float(self.radius)
        total = add_gradients(network, images, targets, self.samples, lambda copies: radius * noise.uniform(copies))
        return total / self.samples
