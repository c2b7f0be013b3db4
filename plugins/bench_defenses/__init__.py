"""Training-time defenses."""

from collections.abc import Iterable

import bench
from bench_defenses.adversarial import Adversarial
from bench_defenses.atex import ATEX
from bench_defenses.ce import CE
from bench_defenses.cosd import Cosd
from bench_defenses.gaussian_noise import GaussianNoise
from bench_defenses.harmonize import Harmonize
from bench_defenses.hessian import Hessian
from bench_defenses.ig_norm import IGNorm
from bench_defenses.iga import IGA
from bench_defenses.l2 import L2
from bench_defenses.l2_cosd import L2Cosd
from bench_defenses.maxent import MaxEnt
from bench_defenses.norm_at import NormAT
from bench_defenses.ssr import SSR
from bench_defenses.trades import TRADES
from bench_defenses.weights import Weights


@bench.hookimpl
def bench_components() -> Iterable[type[bench.Component]]:
    return [
        ATEX,
        CE,
        IGA,
        L2,
        SSR,
        TRADES,
        Adversarial,
        Cosd,
        GaussianNoise,
        Harmonize,
        Hessian,
        IGNorm,
        L2Cosd,
        MaxEnt,
        NormAT,
        Weights,
    ]
