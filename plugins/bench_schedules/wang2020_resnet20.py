"""The recipe of Wang et al. (2020) for ResNet-20 on CIFAR-10."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import bench


@dataclass(frozen=True)
class Wang2020ResNet20(bench.Schedule):
    """Adam 1e-3, batches of 32, 50 epochs, no augmentation; 25 epochs in the paper's comparison of weights.

    The authors' penalty of 1e-4 on squared kernels is a weight decay of 2e-4, here of all weights. The first drop of
    their rate would come after 80 epochs, and so never.
    """

    name = "wang2020_resnet20"
    paper = bench.papers.WANG2020
    examples = ("limit=64,epochs=1,batch=16",)
    epochs: int = 50
    batch: int = 32
    optimiser: Literal["adam", "adamw", "sgd", "nesterov"] = "adam"
    rate: float = 0.001
    weight_decay: float = 0.0002
    decay: tuple[int, ...] = ()
    augmentation: Literal["none", "crop_flip", "rotate_flip_blur"] = "none"
    clipping: float = 0.0
    limit: int = 0
