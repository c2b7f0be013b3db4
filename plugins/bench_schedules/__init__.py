"""Training schedules."""

from collections.abc import Iterable

import bench
from bench_schedules.gong2024_imagenette import Gong2024Imagenette
from bench_schedules.joo2023_lenet import Joo2023LeNet
from bench_schedules.joo2023_resnet18 import Joo2023ResNet18
from bench_schedules.quick import Quick
from bench_schedules.singh2020 import Singh2020
from bench_schedules.wang2020_resnet20 import Wang2020ResNet20


@bench.hookimpl
def bench_components() -> Iterable[type[bench.Component]]:
    return [Gong2024Imagenette, Joo2023LeNet, Joo2023ResNet18, Quick, Singh2020, Wang2020ResNet20]
