"""The recipe of Singh et al. (2020) for a Wide ResNet on CIFAR-10."""

from __future__ import annotations

from dataclasses import dataclass

import bench


@dataclass(frozen=True)
class Singh2020(bench.Schedule):
    """Train as Singh et al. (ECCV 2020) do, by SGD for 101 epochs. The rate is 0.1, a tenth of it after 50 and 80
    epochs, with Nesterov's momentum and an l2 penalty of 2e-4, in batches of 234, with random crops and flips.

    The authors also jitter colours and rotate by 2 degrees. Joo et al. (2023) train IGA's LeNet for 200 epochs in
    batches of 128, with a third drop after 150: singh2020:epochs=200,batch=128,decay=(50,80,150).
    """

    name = "singh2020"
    paper = bench.papers.SINGH2020
    examples = ("limit=64,epochs=1,batch=16",)
    epochs = 101
    batch = 234
    optimiser = "nesterov"
    rate = 0.1
    weight_decay = 0.0002
    decay = (50, 80)
    augmentation = "crop_flip"
    clipping = 0.0
    limit = 0
