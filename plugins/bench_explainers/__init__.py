"""Explainers."""

from collections.abc import Iterable

import bench
from bench_explainers.gradient import Gradient
from bench_explainers.random_map import RandomMap
from bench_explainers.smoothgrad import SmoothGrad


@bench.hookimpl
def bench_components() -> Iterable[type[bench.Component]]:
    return [Gradient, RandomMap, SmoothGrad]
