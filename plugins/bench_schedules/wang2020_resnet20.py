"""The recipe of Wang et al. (2020) for ResNet-20 on CIFAR-10."""

from __future__ import annotations

from dataclasses import dataclass

import bench


@dataclass(frozen=True)
class Wang2020ResNet20(bench.Schedule):
    """Train with Adam at 1e-3, in batches of 32, for 50 epochs, without augmentation. The paper's comparison of weights
    uses 25 epochs.

    The authors' penalty of 1e-4 on squared kernels is a weight decay of 2e-4, which here applies to all weights. The
    first drop of their rate would come after 80 epochs, so it never comes.
    """

    name = "wang2020_resnet20"
    paper = bench.papers.WANG2020
    examples = ("limit=64,epochs=1,batch=16",)
    epochs = 50
    batch = 32
    optimiser = "adam"
    rate = 0.001
    weight_decay = 0.0002
    decay = ()
    augmentation = "none"
    clipping = 0.0
    limit = 0
