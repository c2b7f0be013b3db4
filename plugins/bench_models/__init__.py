"""Architectures."""

from collections.abc import Iterable

import bench
from bench_models.lenet import LeNet
from bench_models.resnet18_cifar import ResNet18CIFAR
from bench_models.resnet20 import ResNet20
from bench_models.timm import Timm
from bench_models.torchvision import Torchvision


@bench.hookimpl
def bench_components() -> Iterable[type[bench.Component]]:
    return [LeNet, ResNet18CIFAR, ResNet20, Timm, Torchvision]
