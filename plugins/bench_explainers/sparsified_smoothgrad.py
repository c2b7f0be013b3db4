"""Average the largest elements of noisy gradients."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

import bench
from bench.copies import add_gradients, gaussian
from bench_explainers.sparsity import keep_largest, scale_to_rank


@dataclass(frozen=True)
class SparsifiedSmoothGrad(bench.Explainer):
    """Average over noisy copies the magnitude of the gradient, clipped at a high rank, scaled to [0, 1], and with all
    but its largest elements set to zero (Levine et al., 2019; as in the code of MoreauGrad).

    These are elements of three channels, not pixels. Attacks treat the ranks as constants.
    """

    name = "sparsified_smoothgrad"
    version = 2
    differentiable = True
    paper = bench.Paper(
        "Certifiably Robust Interpretation in Deep Learning",
        "Alexander Levine and Sahil Singla and Soheil Feizi",
        "arXiv",
        2019,
        "https://arxiv.org/abs/1905.12105",
    )
    examples = ("samples=3", "samples=2,clip=0.05,keep=0.3")
    samples: int = bench.param(256, "noisy copies of each image", low=1)
    noise: float = bench.param(0.1, "standard deviation, as a share of the image's range", low=0)
    clip: float = bench.param(0.01, "share of the elements to clip to one", low=0, high=1)
    keep: float = bench.param(0.1, "share of the elements to keep", low=0, high=1)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        total = add_gradients(
            network,
            images,
            targets,
            self.samples,
            change=lambda copies: gaussian(copies, self.noise),
            each=lambda gradients: keep_largest(scale_to_rank(gradients.abs(), self.clip), self.keep),
        )
        return total / self.samples
