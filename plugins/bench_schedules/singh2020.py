"""The recipe of Singh et al. (2020) for a Wide ResNet on CIFAR-10."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import bench


@dataclass(frozen=True)
class Singh2020(bench.Schedule):
    """SGD 0.1 with Nesterov's momentum and an l2 penalty of 2e-4, batches of 234, 101 epochs, a tenth of the rate after
    50 and 80, random crops and flips.

    The authors jitter colours and rotate by 2 degrees as well. Joo et al. (2023) train IGA's LeNet for 200 epochs in
    batches of 128, with a third drop after 150: singh2020:epochs=200,batch=128,decay=(50,80,150).
    """

    name = "singh2020"
    paper = bench.papers.SINGH2020
    examples = ("limit=64,epochs=1,batch=16",)
    epochs: int = 101
    batch: int = 234
    optimiser: Literal["adam", "adamw", "sgd", "nesterov"] = "nesterov"
    rate: float = 0.1
    weight_decay: float = 0.0002
    decay: tuple[int, ...] = (50, 80)
    augmentation: Literal["none", "crop_flip", "rotate_flip_blur"] = "crop_flip"
    clipping: float = 0.0
    limit: int = 0
