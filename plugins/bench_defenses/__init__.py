"""Training-time defenses."""

from collections.abc import Iterable

import bench
from bench_defenses.ce import CE
from bench_defenses.cosd import Cosd
from bench_defenses.l2 import L2
from bench_defenses.l2_cosd import L2Cosd
from bench_defenses.weights import Weights


@bench.hookimpl
def bench_components() -> Iterable[type[bench.Component]]:
    return [CE, Cosd, L2, L2Cosd, Weights]
