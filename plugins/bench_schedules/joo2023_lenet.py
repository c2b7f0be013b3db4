"""The recipe of Joo et al. (2023) for LeNet on CIFAR-10."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import bench


@dataclass(frozen=True)
class Joo2023LeNet(bench.Schedule):
    """Adam 1e-3 with an l2 penalty of 4e-5, batches of 128, 200 epochs, a tenth of the rate after 100 and 150, random
    crops and flips.

    Clipping at 0.5 is in the authors' code and not in the paper; their last epoch is the one evaluated, as here.
    """

    name = "joo2023_lenet"
    paper = bench.papers.JOO2023
    examples = ("limit=64,epochs=1,batch=16",)
    epochs: int = 200
    batch: int = 128
    optimiser: Literal["adam", "adamw", "sgd", "nesterov"] = "adam"
    rate: float = 0.001
    weight_decay: float = 4e-5
    decay: tuple[int, ...] = (100, 150)
    augmentation: Literal["none", "crop_flip", "rotate_flip_blur"] = "crop_flip"
    clipping: float = 0.5
    limit: int = 0
