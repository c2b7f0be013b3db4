"""Keep the largest elements of the gradient."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

import bench
from bench.gradients import input_gradient
from bench_explainers.sparsity import keep_largest


@dataclass(frozen=True)
class SparseGradient(bench.Explainer):
    """Keep only the largest elements of the gradient's magnitude ("sparsification" of Gong, Dou and Farnia, CVPR 2024).
    The gradient is that of the target's logit. Its elements are those of three channels, not pixels, and all but the
    largest are set to zero.

    Their text does not give the share to keep; a tenth is that of the sparsified SmoothGrad in the same comparison.
    """

    name = "sparse_gradient"
    differentiable = True
    paper = bench.papers.GONG2024
    examples = ("", "keep=0.3")
    keep: float = bench.param(0.1, "share of the elements to keep", low=0, high=1)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return keep_largest(input_gradient(network, images, targets).abs(), self.keep)
