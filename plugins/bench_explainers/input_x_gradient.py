"""Multiply the gradient by the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

import bench
from bench.gradients import input_gradient


@dataclass(frozen=True)
class InputXGradient(bench.Explainer):
    """Multiply the image by the gradient of the target's logit (Shrikumar et al., 2016).

    In normalised space, as in Joo et al. (2023), a pixel of the mean colour has no relevance. In pixel space, as in
    Wang et al. (2020), a black pixel has none. The two give different maps.
    """

    name = "input_x_gradient"
    differentiable = True
    paper = bench.Paper(
        "Not Just a Black Box: Learning Important Features Through Propagating Activation Differences",
        "Avanti Shrikumar and Peyton Greenside and Anna Shcherbina and Anshul Kundaje",
        "arXiv",
        2016,
        "https://arxiv.org/abs/1605.01713",
    )
    examples = ("", "space=pixel")
    space: Literal["normalised", "pixel"] = bench.param("normalised", "the space whose zero means no relevance")

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        # The std cancels: (x - mean) / std times std * gradient.
        zero = bench.normalisation(network)[0] if self.space == "normalised" else 0.0
        return (images - zero) * input_gradient(network, images, targets)
