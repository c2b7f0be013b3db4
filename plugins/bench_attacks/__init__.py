"""Attacks on explanations."""

from collections.abc import Iterable

import bench
from bench_attacks.mass_center import MassCenter
from bench_attacks.pgd import PGD
from bench_attacks.random_search import RandomSearch
from bench_attacks.sign_noise import SignNoise
from bench_attacks.target_map import TargetMap
from bench_attacks.topk import TopK
from bench_attacks.topk_l2 import TopKL2
from bench_attacks.transfer import Transfer
from bench_attacks.uniform_noise import UniformNoise


@bench.hookimpl
def bench_components() -> Iterable[type[bench.Component]]:
    return [MassCenter, PGD, RandomSearch, SignNoise, TargetMap, TopK, TopKL2, Transfer, UniformNoise]
