"""Weight feature maps by their positive gradients, so that each part of an object counts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench_explainers.class_maps import ClassMaps


@dataclass(frozen=True)
class GradCAMPlusPlus(ClassMaps):
    """Weight a layer's feature maps by their positive gradients, and add them up (Grad-CAM++; Chattopadhay et al., WACV
    2018, eq. 5 and 19). The weight is the sum over space of alpha relu(g), and the positive part of the sum is kept. g
    is the gradient of the target's logit by the map A, and alpha = g^2 / (2 g^2 + g^3 sum A).

    The paper explains exp(logit), which multiplies every weight by exp(logit). That factor is left out: it overflows,
    and maps are scaled anyway. The authors' code also divides alpha by its sum over space, which the paper does not.
    alpha is meant for layers after a ReLU. Layers are found as by `gradcam`.
    """

    name = "gradcam_pp"
    paper = bench.Paper(
        "Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep Convolutional Networks",
        "Aditya Chattopadhay and Anirban Sarkar and Prantik Howlader and Vineeth N Balasubramanian",
        "WACV",
        2018,
        "https://arxiv.org/abs/1710.11063",
    )

    def combine(self, maps: Tensor, gradient: Tensor) -> Tensor:
        below = 2 + gradient * maps.sum((2, 3), keepdim=True)  # of alpha, divided by g^2
        # As the authors' code does where the denominator is zero, which features of both signs allow.
        alpha = 1 / below.where(below != 0, 1)
        weights = (alpha * gradient.clamp(min=0)).sum((2, 3), keepdim=True)
        return (weights * maps).sum(1, keepdim=True).relu()
