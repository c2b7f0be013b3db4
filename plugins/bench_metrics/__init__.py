"""Metrics."""

from collections.abc import Iterable

import bench
from bench_metrics.accuracy import Accuracy
from bench_metrics.adv_insertion import AdvInsertion
from bench_metrics.aopc import AOPC
from bench_metrics.attack_time import AttackTime
from bench_metrics.attacked_accuracy import AttackedAccuracy
from bench_metrics.center_shift import CenterShift
from bench_metrics.class_retrieval import ClassRetrieval
from bench_metrics.cosine import Cosine
from bench_metrics.crc import CRC
from bench_metrics.crc_bound import CRCBound
from bench_metrics.data_dependence import DataDependence
from bench_metrics.deletion import Deletion
from bench_metrics.diffroar import DiffROAR
from bench_metrics.explain_time import ExplainTime
from bench_metrics.gaze_overlap import GazeOverlap
from bench_metrics.hessian_norm import HessianNorm
from bench_metrics.infidelity import Infidelity
from bench_metrics.insertion import Insertion
from bench_metrics.kept_rate import KeptRate
from bench_metrics.l1_distance import L1Distance
from bench_metrics.l1_norm import L1Norm
from bench_metrics.label_randomization import LabelRandomization
from bench_metrics.local_lipschitz import LocalLipschitz
from bench_metrics.mask_mass import MaskMass
from bench_metrics.mask_overlap import MaskOverlap
from bench_metrics.pearson import Pearson
from bench_metrics.pointing_game import PointingGame
from bench_metrics.preservation import Preservation
from bench_metrics.randomization import Randomization
from bench_metrics.relevance import Relevance
from bench_metrics.rps import RPS
from bench_metrics.sparsity import Sparsity
from bench_metrics.spearman import Spearman
from bench_metrics.ssim import SSIM
from bench_metrics.stability import Stability
from bench_metrics.success_rate import SuccessRate
from bench_metrics.topk_mass import TopKMass
from bench_metrics.topk_overlap import TopKOverlap
from bench_metrics.topk_overlap_elements import TopKOverlapElements
from bench_metrics.train_memory import TrainMemory
from bench_metrics.train_passes import TrainPasses
from bench_metrics.train_time import TrainTime


@bench.hookimpl
def bench_components() -> Iterable[type[bench.Component]]:
    return [
        AOPC,
        Accuracy,
        AdvInsertion,
        AttackTime,
        AttackedAccuracy,
        CRC,
        CRCBound,
        CenterShift,
        ClassRetrieval,
        Cosine,
        DataDependence,
        Deletion,
        DiffROAR,
        ExplainTime,
        GazeOverlap,
        HessianNorm,
        Infidelity,
        Insertion,
        KeptRate,
        L1Distance,
        L1Norm,
        LabelRandomization,
        LocalLipschitz,
        MaskMass,
        MaskOverlap,
        Pearson,
        PointingGame,
        Preservation,
        RPS,
        Randomization,
        Relevance,
        SSIM,
        Sparsity,
        Spearman,
        Stability,
        SuccessRate,
        TopKMass,
        TopKOverlap,
        TopKOverlapElements,
        TrainMemory,
        TrainPasses,
        TrainTime,
    ]
