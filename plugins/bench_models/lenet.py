"""The small convolutional network of Joo et al. (2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

import bench
from bench_models.activation import activation, he_initialised
from bench_models.cifar import normalised


@dataclass(frozen=True)
class LeNet(bench.Model):
    """Four 3x3 convolutions (32, 32, pool, 64, 64, pool) and two linear layers (256, classes), with biases and no batch
    norm: 1,116,970 weights on 3 x 32 x 32 and 10 classes.

    "Three-layer" in the paper's text, this in the authors' code. Weights start as He et al. (2015) have it, not as
    torch does.
    """

    name = "lenet"
    paper = bench.papers.JOO2023
    examples = ("", "activation=relu")
    activation: Literal["softplus", "relu"] = bench.param("softplus", "the nonlinearity, everywhere")
    beta: float = bench.param(3.0, "sharpness of softplus; unused with relu", low=0.01)

    @property
    def smooth(self) -> bool:
        return self.activation == "softplus"

    def build(self, shape: tuple[int, int, int], classes: int) -> bench.Normalised:
        channels, height, width = shape
        if min(height, width) < 4:
            raise bench.BadComponent(
                f"model lenet pools twice and needs images of at least 4 pixels, not {height} x {width}"
            )

        def act() -> nn.Module:
            return activation(self.activation, self.beta)

        return normalised(
            he_initialised(
                nn.Sequential(
                    nn.Conv2d(channels, 32, 3, padding=1),
                    act(),
                    nn.Conv2d(32, 32, 3, padding=1),
                    act(),
                    nn.MaxPool2d(2),
                    nn.Conv2d(32, 64, 3, padding=1),
                    act(),
                    nn.Conv2d(64, 64, 3, padding=1),
                    act(),
                    nn.MaxPool2d(2),
                    nn.Flatten(),
                    nn.Linear(64 * (height // 4) * (width // 4), 256),
                    act(),
                    nn.Linear(256, classes),
                )
            ),
            channels,
        )
