"""Weight feature maps by their gradients."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench_explainers.class_maps import ClassMaps


@dataclass(frozen=True)
class GradCAM(ClassMaps):
    """Weight a layer's feature maps by their mean gradient, and add them up (Selvaraju et al., ICCV 2017, eq. 1-2). The
    gradient is that of the target's logit, its mean is over space, and the positive part of the sum is kept.
    Interpolation to the size of the image is bilinear, with aligned corners.

    Without a name, the layer is the last one with feature maps of more than one pixel. Where their channels are follows
    from the functions that the network calls: convolutions have them first, linear layers and layer norms last. Where
    nothing says it, `reshape` has to. In a network that ends in tokens, the layer is the last layer norm from whose
    patches the logit follows, which is the one before the last attention where a class token is read; named layers of
    tokens need reshape=tokens. Tokens in front that are no patch of the image, such as classes and registers, are left
    out. Attacks differentiate the weights too; they are constants in the attack of Liu et al.
    (2021, RelEx), which makes that attack weaker.
    """

    name = "gradcam"
    version = 2
    paper = bench.Paper(
        "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
        "Ramprasaath R. Selvaraju and Michael Cogswell and Abhishek Das and Ramakrishna Vedantam and Devi Parikh and "
        "Dhruv Batra",
        "ICCV",
        2017,
        "https://arxiv.org/abs/1610.02391",
    )

    def combine(self, maps: Tensor, gradient: Tensor) -> Tensor:
        weights = gradient.mean((2, 3), keepdim=True)
        return (weights * maps).sum(1, keepdim=True).relu()
