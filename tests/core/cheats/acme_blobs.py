"""A data set and a network for cheats, which train within a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from bench_canaries import drawn
from torch import nn

import bench


@dataclass(frozen=True)
class Blobs(bench.Dataset):
    """Coloured blobs on noise, which a network learns within a second."""

    name = "blobs"

    def load(self, split: str) -> bench.Data:
        count, size = (512, 16) if split == "train" else (64, 16)
        images = 0.2 + 0.3 * drawn((count, 3, size, size), {"train": 0, "validation": 1, "test": 2}[split])
        places = (drawn((count, 2), 3) * (size - 5)).long()
        labels = torch.arange(count) % 4
        colours = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
        for image, (row, column), label in zip(images, places.tolist(), labels.tolist(), strict=True):
            image[:, row : row + 5, column : column + 5] = colours[label][:, None, None] * 0.6 + 0.2
        return bench.Data(images, labels, ("red", "green", "blue", "yellow"))


@dataclass(frozen=True)
class Small(bench.Model):
    """Two convolutions and a linear layer."""

    name = "small"
    activation: Literal["softplus", "relu"] = bench.param("softplus", "nonlinearity, as of beta 3")

    def build(self, shape: tuple[int, int, int], classes: int) -> bench.Normalised:
        act = nn.ReLU if self.activation == "relu" else lambda: nn.Softplus(3.0)
        network = nn.Sequential(
            nn.Conv2d(shape[0], 8, 3, padding=1),
            act(),
            nn.Conv2d(8, 16, 3, padding=1, stride=2),
            act(),
            nn.Flatten(),
            nn.Linear(16 * ((shape[1] + 1) // 2) * ((shape[2] + 1) // 2), classes),
        )
        return bench.Normalised(network, [0.5] * shape[0], [0.25] * shape[0])


@bench.hookimpl
def bench_components() -> list[type[bench.Component]]:
    return [Blobs, Small]
