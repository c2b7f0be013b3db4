"""How CIFAR-10 networks normalise their images."""

from __future__ import annotations

from torch import nn

import bench

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def normalise(network: nn.Module, channels: int) -> bench.Normalised:
    """Put a network behind CIFAR-10's mean and std, or their averages where images do not have three channels."""
    if channels == 3:
        return bench.Normalised(network, MEAN, STD)
    return bench.Normalised(network, [sum(MEAN) / 3] * channels, [sum(STD) / 3] * channels)
