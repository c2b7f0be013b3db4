"""Integrate the gradient along ever sharper versions of the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import bench
from bench.gradients import input_gradient, summed
from bench_explainers.mask import blur


@dataclass(frozen=True)
class BlurIntegratedGradients(bench.Explainer):
    """Integrate the gradient of the target's logit while a blurred image gets sharp (Blur IG; Xu et al., CVPR 2020).
    Every step takes away as much of the blur's width. The attribution is the sum of the gradient at each step's end
    times what the step changes.

    Complete up to the error of this sum: the attribution adds up to the difference of the logits at both ends. The
    authors' code takes the derivative of the blur instead of the change, by a difference of 0.01 pixels, and is black
    beyond the border, where this blur mirrors the image. Its default is 100 steps.
    """

    name = "blur_integrated_gradients"
    differentiable = True
    paper = bench.Paper(
        "Attribution in Scale and Space",
        "Shawn Xu and Subhashini Venugopalan and Mukund Sundararajan",
        "CVPR",
        2020,
        "https://arxiv.org/abs/2004.03383",
    )
    examples = ("steps=5", "steps=3,blur=0.1")
    steps: int = bench.param(50, "steps of the path", low=1)
    blur: float = bench.param(
        50 / 224, "standard deviation of the blur at the start, as a share of the image's shorter side", low=0.001
    )

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        most = self.blur * min(images.shape[2:])

        def term(images: Tensor, numbers: range) -> Tensor:
            points = range(numbers.start, numbers.stop + 1)
            path = torch.stack([blur(images, most * (1 - point / self.steps)) for point in points], 1)
            classes = targets.repeat_interleave(len(numbers), 0)
            gradients = input_gradient(network, path[:, 1:].flatten(0, 1), classes)
            changes = path.diff(dim=1)
            return (gradients.view_as(changes) * changes).sum(1)

        return summed(network, images, self.steps, term)
