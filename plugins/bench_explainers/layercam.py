"""Multiply feature maps by their positive gradients."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench_explainers.class_maps import ClassMaps


@dataclass(frozen=True)
class LayerCAM(ClassMaps):
    """Multiply a layer's feature maps by the positive part of their gradient (Jiang et al., TIP 2021). The gradient is
    that of the target's logit; channels are added up, and the positive part of the sum is kept. It is meant for shallow
    layers too, which `layer` names. Layers are found as by `gradcam`. Maps are enlarged with their corners on
    those of the image, as for all class maps here; the authors' code aligns borders, and does not cut the sum at zero.
    """

    name = "layercam"
    paper = bench.Paper(
        "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization",
        "Peng-Tao Jiang and Chang-Bin Zhang and Qibin Hou and Ming-Ming Cheng and Yunchao Wei",
        "IEEE Transactions on Image Processing",
        2021,
        "https://doi.org/10.1109/TIP.2021.3089943",
    )

    def combine(self, maps: Tensor, gradient: Tensor) -> Tensor:
        return (gradient.clamp(min=0) * maps).sum(1, keepdim=True).relu()
