"""Average the gradient over a cube."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from torch import Tensor, nn

import bench
from bench import noise
from bench.copies import add_gradients, value_range


@dataclass(frozen=True)
class UniGrad(bench.Explainer):
    """Average the signed gradient of the target's logit over copies with uniform noise ("Uniform Gradient" of Wang et
    al., NeurIPS 2020).

    In the authors' experiments the mean is multiplied by the image, with times_input, here and for SmoothGrad. Their
    half-width is 4 grey levels on CIFAR-10, and on ImageNet a fifth of the image's range, radius=1/5,units=range.
    """

    name = "unigrad"
    differentiable = True
    paper = bench.papers.WANG2020
    examples = ("samples=3", "samples=4,radius=16/255", "samples=3,units=range,times_input=true")
    samples: int = bench.param(50, "noisy copies of each image", low=1)
    radius: Fraction = bench.param(Fraction(4, 255), "half-width of the noise, in these units", low=0, high=1)
    units: Literal["pixel", "range"] = bench.param("pixel", "pixel units, or shares of the image's range", added=True)
    times_input: bool = bench.param(False, "whether to multiply the mean by the image, in pixel units", added=True)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        def uniform(copies: Tensor) -> Tensor:
            width = float(self.radius) * noise.uniform(copies)
            return width if self.units == "pixel" else width * value_range(copies)

        mean = add_gradients(network, images, targets, self.samples, uniform) / self.samples
        return images * mean if self.times_input else mean
