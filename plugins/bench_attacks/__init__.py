"""Attacks on explanations."""

from collections.abc import Iterable

import bench
from bench_attacks.topk import TopK
from bench_attacks.uniform_noise import UniformNoise


@bench.hookimpl
def bench_components() -> Iterable[type[bench.Component]]:
    return [TopK, UniformNoise]
