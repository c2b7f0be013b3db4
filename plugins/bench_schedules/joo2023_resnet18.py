"""The recipe of Joo et al. (2023) for ResNet-18 on CIFAR-10."""

from __future__ import annotations

from dataclasses import dataclass

import bench


@dataclass(frozen=True)
class Joo2023ResNet18(bench.Schedule):
    """Train as Joo et al. (AAAI 2023) train ResNet-18 on CIFAR-10, by AdamW for 200 epochs. The rate is 1e-3, a tenth
    of it after 100 and 150 epochs, with a weight decay of 0.01, in batches of 128, with random crops and flips.

    Clipping at 0.5 is in the authors' code and not in the paper. They evaluate the last epoch, as here.
    """

    name = "joo2023_resnet18"
    paper = bench.papers.JOO2023
    examples = ("limit=64,epochs=1,batch=16",)
    epochs = 200
    batch = 128
    optimiser = "adamw"
    rate = 0.001
    weight_decay = 0.01
    decay = (100, 150)
    augmentation = "crop_flip"
    clipping = 0.5
    limit = 0
