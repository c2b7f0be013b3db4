"""The recipe of Gong et al. (2024) for EfficientNet-B0 on Imagenette."""

from __future__ import annotations

from dataclasses import dataclass

import bench


@dataclass(frozen=True)
class Gong2024Imagenette(bench.Schedule):
    """Train as Gong et al. (CVPR 2024) do on Imagenette, by Adam for 200 epochs. The rate stays at 3e-4, with moments
    of 0.999 and an l2 penalty of 1e-4, in batches of 16, with rotations of up to 30 degrees, flips, and blurs of 5
    pixels.

    The authors' code has batches of 8 and keeps the epoch with the best test accuracy; here, the last epoch counts.
    """

    name = "gong2024_imagenette"
    paper = bench.papers.GONG2024
    examples = ("limit=64,epochs=1,batch=16",)
    epochs = 200
    batch = 16
    optimiser = "adam"
    rate = 0.0003
    weight_decay = 0.0001
    decay = ()
    augmentation = "rotate_flip_blur"
    clipping = 0.0
    limit = 0
    momentum = 0.999
