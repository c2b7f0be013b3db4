"""The small convolutional network of Joo et al. (2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

import bench
from bench_models.activation import activation, initialise
from bench_models.cifar import normalise

CHANNELS, UNITS = (32, 64), 256


@dataclass(frozen=True)
class LeNet(bench.Model):
    """Build four 3x3 convolutions and two linear layers, without batch norm. The convolutions have 32, 32, 64 and 64
    channels, with a pooling after the second and the fourth; the linear layers have 256 units and one for each class.
    With their biases, these are 1,116,970 weights for 3 x 32 x 32 pixels and 10 classes.

    The paper's text says "three-layer"; this is the authors' code. Weights start as in He et al. (2015), not as in
    torch.
    """

    name = "lenet"
    paper = bench.papers.JOO2023
    examples = ("", "activation=relu")
    activation: Literal["softplus", "relu"] = bench.param("softplus", "nonlinearity of all layers")
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

        first, second = CHANNELS
        return normalise(
            initialise(
                nn.Sequential(
                    nn.Conv2d(channels, first, 3, padding=1),
                    act(),
                    nn.Conv2d(first, first, 3, padding=1),
                    act(),
                    nn.MaxPool2d(2),
                    nn.Conv2d(first, second, 3, padding=1),
                    act(),
                    nn.Conv2d(second, second, 3, padding=1),
                    act(),
                    nn.MaxPool2d(2),
                    nn.Flatten(),
                    nn.Linear(second * (height // 4) * (width // 4), UNITS),
                    act(),
                    nn.Linear(UNITS, classes),
                )
            ),
            channels,
        )
