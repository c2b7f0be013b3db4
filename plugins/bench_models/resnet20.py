"""ResNet-20 for small images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench_models.activation import activation, initialise
from bench_models.imagenet import MEAN, STD
from bench_models.resnet18_cifar import HE2016


@dataclass(frozen=True)
class ResNet20(bench.Model):
    """Build the ResNet-20 of He et al. for CIFAR-10 (CVPR 2016, section 4.2). Its stages have three blocks each, of 16,
    32 and 64 channels. Its 3x3 convolutions have no bias, and its shortcuts no weights (option A: every second pixel,
    missing channels zero). It has 269,722 weights for 10 classes.

    The names of weights, and ImageNet's mean and std inside, are those of Idelbayev's implementation, so its trained
    weights load. The ResNet-20 of Wang et al. (2020) is another one, with biases and projections.
    """

    name = "resnet20"
    paper = HE2016
    examples = ("", "activation=softplus")
    activation: Literal["softplus", "relu"] = bench.param("relu", "nonlinearity of all layers")
    beta: float = bench.param(3.0, "sharpness of softplus; unused with relu", low=0.01)

    @property
    def smooth(self) -> bool:
        return self.activation == "softplus"

    def build(self, shape: tuple[int, int, int], classes: int) -> bench.Normalised:
        if shape[0] != 3:
            raise bench.BadComponent(f"model resnet20 needs images of three channels, not {shape[0]}")
        return bench.Normalised(initialise(Network(classes, self)), MEAN, STD)


class Network(nn.Module):
    """A 3x3 convolution, three stages of blocks, average pooling, and a linear layer."""

    def __init__(self, classes: int, model: ResNet20) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.act = activation(model.activation, model.beta)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(*(Block(inputs if i == 0 else outputs, outputs, model) for i in range(3)))
            for inputs, outputs in ((16, 16), (16, 32), (32, 64))
        )
        self.linear = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.act(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(features)))
        return self.linear(features.mean((2, 3)))


class Block(nn.Module):
    """Two 3x3 convolutions, and a shortcut that halves the picture where the channels double."""

    def __init__(self, inputs: int, outputs: int, model: ResNet20) -> None:
        super().__init__()
        self.stride, self.missing = (1, 0) if inputs == outputs else (2, outputs - inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.act1 = activation(model.activation, model.beta)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act2 = activation(model.activation, model.beta)

    def forward(self, images: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(images)))))
        return self.act2(residual + self._shortcut(images))

    def _shortcut(self, images: Tensor) -> Tensor:
        if not self.missing:
            return images
        before = self.missing // 2
        return F.pad(images[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.missing - before))
