"""Explainers."""

from collections.abc import Iterable

import bench
from bench_explainers.deeplift import DeepLIFT
from bench_explainers.edge_map import EdgeMap
from bench_explainers.expected_gradients import ExpectedGradients
from bench_explainers.gradcam import GradCAM
from bench_explainers.gradient import Gradient
from bench_explainers.guided_backprop import GuidedBackprop
from bench_explainers.input_x_gradient import InputXGradient
from bench_explainers.integrated_gradients import IntegratedGradients
from bench_explainers.lrp import LRP
from bench_explainers.mask import Mask
from bench_explainers.moreau_grad import MoreauGrad
from bench_explainers.occlusion import Occlusion
from bench_explainers.random_map import RandomMap
from bench_explainers.relex import RelEx
from bench_explainers.rtsal import RTSal
from bench_explainers.smoothgrad import SmoothGrad
from bench_explainers.sparse_gradient import SparseGradient
from bench_explainers.sparsified_smoothgrad import SparsifiedSmoothGrad
from bench_explainers.unigrad import UniGrad
from bench_explainers.vargrad import VarGrad


@bench.hookimpl
def bench_components() -> Iterable[type[bench.Component]]:
    return [
        DeepLIFT,
        EdgeMap,
        ExpectedGradients,
        GradCAM,
        Gradient,
        GuidedBackprop,
        InputXGradient,
        IntegratedGradients,
        LRP,
        Mask,
        MoreauGrad,
        Occlusion,
        RTSal,
        RandomMap,
        RelEx,
        SmoothGrad,
        SparseGradient,
        SparsifiedSmoothGrad,
        UniGrad,
        VarGrad,
    ]
