"""Training schedules."""

from collections.abc import Iterable

import bench
from bench_schedules.joo2023_lenet import Joo2023LeNet
from bench_schedules.quick import Quick


@bench.hookimpl
def bench_components() -> Iterable[type[bench.Component]]:
    return [Joo2023LeNet, Quick]
