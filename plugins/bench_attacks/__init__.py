"""Attacks on explanations."""

import bench


@bench.hookimpl
def bench_components() -> list[type[bench.Component]]:
    return bench.components_of(__name__)
