"""Architectures."""

from collections.abc import Iterable

import bench
from bench_models.lenet import LeNet
from bench_models.resnet18_cifar import ResNet18CIFAR


@bench.hookimpl
def bench_components() -> Iterable[type[bench.Component]]:
    return [LeNet, ResNet18CIFAR]
