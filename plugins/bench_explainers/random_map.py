"""Random numbers: a control."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

import bench
from bench import noise


@dataclass(frozen=True)
class RandomMap(bench.Explainer):
    """Draw uniform noise: what a useless explainer scores. It knows neither the network nor the image."""

    name = "random_map"
    differentiable = False

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return noise.uniform(images[:, :1], 0, 1)
