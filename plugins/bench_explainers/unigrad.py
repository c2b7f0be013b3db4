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
    """Average the gradient of the target's logit over copies with uniform noise ("Uniform Gradient" of Wang et al.,
    NeurIPS 2020). The gradient is signed.

    In the authors' experiments the mean is multiplied by the image, with times_input, here and for SmoothGrad. Their
    half-width is 4 grey levels on CIFAR-10, and on ImageNet a fifth of the image's range, radius=1/5,units=range.

    With shape=ball, the noise fills an l2 ball, as Wang and Kong (2024) ask for in l2: that of the radius times the
    square root of the number of elements. With unit=true, each gradient is divided by its l2 length first, which bounds
    what a copy can say. `cosine_bound` is the certificate for both together.
    """

    name = "unigrad"
    differentiable = True
    paper = bench.papers.WANG2020
    examples = (
        "samples=3",
        "samples=4,radius=16/255",
        "samples=3,units=range,times_input=true",
        "samples=3,shape=ball,unit=true",
    )
    samples: int = bench.param(50, "noisy copies of each image", low=1)
    radius: Fraction = bench.param(Fraction(4, 255), "half-width of the noise, in these units", low=0, high=1)
    units: Literal["pixel", "range"] = bench.param("pixel", "pixel units, or shares of the image's range", added=True)
    times_input: bool = bench.param(False, "whether to multiply the mean by the image, in pixel units", added=True)
    shape: Literal["cube", "ball"] = bench.param("cube", "what the noise fills", added=True)
    unit: bool = bench.param(False, "whether to divide each gradient by its l2 length", added=True)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        def uniform(copies: Tensor) -> Tensor:
            drawn = noise.uniform(copies) if self.shape == "cube" else copies[0].numel() ** 0.5 * noise.ball(copies)
            width = float(self.radius) * drawn
            return width if self.units == "pixel" else width * value_range(copies)

        each = to_unit if self.unit else lambda gradients: gradients
        mean = add_gradients(network, images, targets, self.samples, uniform, each) / self.samples
        return images * mean if self.times_input else mean


def to_unit(values: Tensor) -> Tensor:
    """Divide each row by its l2 length: (B, ...) -> (B, ...). Zero stays zero."""
    length = values.flatten(1).norm(dim=1).view(-1, *(1 for _ in values.shape[1:]))
    return values / length.where(length > 0, 1)
