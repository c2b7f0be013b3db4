"""The largest elements of the gradient."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

import bench
from bench.gradients import input_gradient
from bench_explainers.sparsity import keep_largest


@dataclass(frozen=True)
class SparseGradient(bench.Explainer):
    """Magnitude of the gradient of the target's logit, all but its largest elements set to zero; elements of three
    channels, not pixels (the "sparsification" of Gong, Dou and Farnia, CVPR 2024).

    The share kept is not in their text; a tenth is that of the sparsified SmoothGrad beside it.
    """

    name = "sparse_gradient"
    differentiable = True
    paper = bench.papers.GONG2024
    examples = ("", "keep=0.3")
    keep: float = bench.param(0.1, "share of the elements that is kept", low=0, high=1)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return keep_largest(input_gradient(network, images, targets).abs(), self.keep)
