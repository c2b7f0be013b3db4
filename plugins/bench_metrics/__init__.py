"""Metrics."""

from collections.abc import Iterable

import bench
from bench_metrics.accuracy import Accuracy
from bench_metrics.attacked_accuracy import AttackedAccuracy
from bench_metrics.cosine import Cosine
from bench_metrics.kept_rate import KeptRate
from bench_metrics.rps import RPS
from bench_metrics.spearman import Spearman
from bench_metrics.success_rate import SuccessRate
from bench_metrics.topk_overlap import TopKOverlap
from bench_metrics.train_memory import TrainMemory
from bench_metrics.train_passes import TrainPasses
from bench_metrics.train_time import TrainTime


@bench.hookimpl
def bench_components() -> Iterable[type[bench.Component]]:
    return [
        RPS,
        Accuracy,
        AttackedAccuracy,
        Cosine,
        KeptRate,
        Spearman,
        SuccessRate,
        TopKOverlap,
        TrainMemory,
        TrainPasses,
        TrainTime,
    ]
