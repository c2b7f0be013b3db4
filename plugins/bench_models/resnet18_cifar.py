"""ResNet-18 for small images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

import bench
from bench_models.activation import activation, initialise
from bench_models.cifar import normalise

HE2016 = bench.Paper(
    "Deep Residual Learning for Image Recognition",
    "Kaiming He and Xiangyu Zhang and Shaoqing Ren and Jian Sun",
    "CVPR",
    2016,
    "https://doi.org/10.1109/CVPR.2016.90",
)


@dataclass(frozen=True)
class ResNet18CIFAR(bench.Model):
    """Build a ResNet-18 for small images, with a 3x3 stem and no first pooling. Its stages have 64, 128, 256 and 512
    channels and strides of 1, 2, 2 and 2, and its shortcuts are projections with batch norm. It has 11,173,962 weights
    for 10 classes. Joo et al. (2023) use this layout on CIFAR-10.
    """

    name = "resnet18_cifar"
    paper = HE2016
    examples = ("", "activation=relu")
    activation: Literal["softplus", "relu"] = bench.param("softplus", "nonlinearity of all layers")
    beta: float = bench.param(3.0, "sharpness of softplus; unused with relu", low=0.01)

    @property
    def smooth(self) -> bool:
        return self.activation == "softplus"

    def build(self, shape: tuple[int, int, int], classes: int) -> bench.Normalised:
        stages: list[nn.Module] = []
        width = 64
        for channels, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
            stages.append(Block(width, channels, stride, self))
            width = channels
        return normalise(
            initialise(
                nn.Sequential(
                    nn.Conv2d(shape[0], 64, 3, padding=1, bias=False),
                    nn.BatchNorm2d(64),
                    activation(self.activation, self.beta),
                    *stages,
                    nn.AdaptiveAvgPool2d(1),
                    nn.Flatten(),
                    nn.Linear(512, classes),
                )
            ),
            shape[0],
        )


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, model: ResNet18CIFAR) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            activation(model.activation, model.beta),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )
        self.last = activation(model.activation, model.beta)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.residual(images) + self.shortcut(images))
