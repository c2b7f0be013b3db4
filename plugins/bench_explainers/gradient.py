"""Take the plain gradient."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

import bench
from bench.gradients import input_gradient


@dataclass(frozen=True)
class Gradient(bench.Explainer):
    """Take the gradient of the target's logit by the pixels (Simonyan et al., 2014), signed, in pixel units.

    Joo et al. (2023) take it by the normalised image, which multiplies each channel by its std.
    """

    name = "gradient"
    differentiable = True
    paper = bench.Paper(
        "Deep Inside Convolutional Networks: Visualising Image Classification Models and Saliency Maps",
        "Karen Simonyan and Andrea Vedaldi and Andrew Zisserman",
        "ICLR Workshop",
        2014,
        "https://arxiv.org/abs/1312.6034",
    )

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return input_gradient(network, images, targets)
