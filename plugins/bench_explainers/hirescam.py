"""Multiply feature maps by their gradients."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench_explainers.class_maps import ClassMaps


@dataclass(frozen=True)
class HiResCAM(ClassMaps):
    """Multiply a layer's feature maps by their gradient, element by element (Draelos and Carin, 2020). The gradient is
    that of the target's logit, and channels are added up. Where one linear layer follows, the map before it is enlarged
    adds up to the logit less its bias.

    The map is signed, as in the paper's equation; `gradcam` and `layercam` keep the positive part. Layers are found as
    by `gradcam`.
    """

    name = "hirescam"
    paper = bench.Paper(
        "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks",
        "Rachel Lea Draelos and Lawrence Carin",
        "arXiv",
        2020,
        "https://arxiv.org/abs/2011.08891",
    )

    def combine(self, maps: Tensor, gradient: Tensor) -> Tensor:
        return (gradient * maps).sum(1, keepdim=True)
