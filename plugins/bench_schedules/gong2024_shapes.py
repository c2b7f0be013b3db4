"""The recipe of Gong et al. (2024) for ResNet-34 on their drawn images."""

from __future__ import annotations

from dataclasses import dataclass

import bench


@dataclass(frozen=True)
class Gong2024Shapes(bench.Schedule):
    """Train as Gong et al. (CVPR 2024) do on drawn shapes, by Adam for 10 epochs. The rate is 1e-3, with moments of 0.5
    and 0.999 and an l2 penalty of 1e-5, in batches of 16.

    The authors start from weights for ImageNet (Suppl. B.1): give the file of torchvision's ResNet-34 as `init`. They
    say nothing of augmentation, and there is none here.
    """

    name = "gong2024_shapes"
    paper = bench.papers.GONG2024
    examples = ("limit=64,epochs=1,batch=16",)
    epochs = 10
    batch = 16
    optimiser = "adam"
    rate = 0.001
    weight_decay = 0.00001
    decay = ()
    augmentation = "none"
    clipping = 0.0
    limit = 0
    momentum = 0.5
