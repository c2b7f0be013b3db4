"""A minute on two cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import bench


@dataclass(frozen=True)
class Quick(bench.Schedule):
    """A short training for `shapes` with small networks: enough to tell methods apart, not to compare with papers."""

    name = "quick"
    examples = ("limit=64,epochs=1,batch=16",)
    epochs: int = 3
    batch: int = 16
    optimiser: Literal["adam", "adamw", "sgd", "nesterov"] = "adam"
    rate: float = 0.0005
    weight_decay: float = 0.0
    decay: tuple[int, ...] = (2,)
    augmentation: Literal["none", "crop_flip", "rotate_flip_blur"] = "none"
    clipping: float = 0.5
    limit: int = 0
