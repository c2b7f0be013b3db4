"""Data sets."""

from collections.abc import Iterable

import bench
from bench_datasets.shapes import Shapes


@bench.hookimpl
def bench_components() -> Iterable[type[bench.Component]]:
    return [Shapes]
