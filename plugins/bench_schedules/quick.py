"""Train for a minute on two cores."""

from __future__ import annotations

from dataclasses import dataclass

import bench


@dataclass(frozen=True)
class Quick(bench.Schedule):
    """Train small networks on `shapes` briefly. This is enough to tell methods apart, not to compare with papers."""

    name = "quick"
    examples = ("limit=64,epochs=1,batch=16",)
    epochs = 3
    batch = 16
    optimiser = "adam"
    rate = 0.0005
    weight_decay = 0.0
    decay = (2,)
    augmentation = "none"
    clipping = 0.5
    limit = 0
