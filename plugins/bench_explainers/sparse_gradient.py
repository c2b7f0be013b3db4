"""The largest elements of the gradient."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

import bench
from bench.gradients import input_gradient
from bench_explainers.sparsity import largest


@dataclass(frozen=True)
class SparseGradient(bench.Explainer):
    """Magnitude of the gradient of the target's logit, all but its largest elements set to zero; elements of three
    channels, not pixels (the "sparsification" of Gong, Dou and Farnia, CVPR 2024).

    The share kept is not in their text; a tenth is that of the sparsified SmoothGrad beside it.
    """

    name = "sparse_gradient"
    differentiable = True
    paper = bench.Paper(
        "Structured Gradient-based Interpretations via Norm-Regularized Adversarial Training",
        "Shizhan Gong and Qi Dou and Farzan Farnia",
        "CVPR",
        2024,
        "https://openaccess.thecvf.com/content/CVPR2024/html/Gong_Structured_Gradient-based_Interpretations_via_"
        "Norm-Regularized_Adversarial_Training_CVPR_2024_paper.html",
    )
    examples = ("", "keep=0.3")
    keep: float = bench.param(0.1, "share of the elements that is kept", low=0, high=1)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return largest(input_gradient(network, images, targets).abs(), self.keep)
