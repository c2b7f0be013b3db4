"""The recipe of Gong et al. (2024) for EfficientNet-B0 on Imagenette."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import bench


@dataclass(frozen=True)
class Gong2024Imagenette(bench.Schedule):
    """Adam 3e-4 with moments of 0.999 and an l2 penalty of 1e-4, batches of 16, 200 epochs at one rate, rotations of up
    to 30 degrees, flips and blurs of 5 pixels.

    The authors' code has batches of 8 and keeps the epoch of the best test accuracy; here the last one counts.
    """

    name = "gong2024_imagenette"
    paper = bench.papers.GONG2024
    examples = ("limit=64,epochs=1,batch=16",)
    epochs: int = 200
    batch: int = 16
    optimiser: Literal["adam", "adamw", "sgd", "nesterov"] = "adam"
    rate: float = 0.0003
    weight_decay: float = 0.0001
    decay: tuple[int, ...] = ()
    augmentation: Literal["none", "crop_flip", "rotate_flip_blur"] = "rotate_flip_blur"
    clipping: float = 0.0
    limit: int = 0
    momentum: float = 0.999
