"""The recipe of Joo et al. (2023) for ResNet-18 on ImageNet-100."""

from __future__ import annotations

from dataclasses import dataclass

import bench


@dataclass(frozen=True)
class Joo2023ImageNet100(bench.Schedule):
    """Train as Joo et al. (AAAI 2023) do on ImageNet-100, by AdamW for 90 epochs. The rate is 1e-3, a tenth of it after
    40, 60 and 80 epochs, with a weight decay of 0.01, in batches of 128, with resized random crops and flips.

    Crops are taken from the images as the data set frames them, where the authors' code takes them from the whole
    photographs. Clipping at 0.5 is in that code and not in the paper. They evaluate the last epoch, as here.
    """

    name = "joo2023_imagenet100"
    paper = bench.papers.JOO2023
    examples = ("limit=64,epochs=1,batch=16",)
    epochs = 90
    batch = 128
    optimiser = "adamw"
    rate = 0.001
    weight_decay = 0.01
    decay = (40, 60, 80)
    augmentation = "resized_crop_flip"
    clipping = 0.5
    limit = 0
