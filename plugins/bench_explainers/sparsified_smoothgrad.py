"""Average the largest elements of noisy gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

import bench
from bench import noise
from bench.copies import add_gradients, gaussian
from bench_explainers.sparsity import keep_largest, scale_to_rank


@dataclass(frozen=True)
class SparsifiedSmoothGrad(bench.Explainer):
    """Average over noisy copies the largest elements of the gradient's magnitude (Levine et al., 2019; as in the code
    of MoreauGrad). Each magnitude is clipped at a high rank and scaled to [0, 1], and all but its largest elements are
    set to zero.

    These are elements of three channels, not pixels. Attacks treat the ranks as constants. With units=pixel, the noise
    is the same for all images, as theorems on smoothing ask: `topk_overlap_bound` is their certificate.
    """

    name = "sparsified_smoothgrad"
    version = 2
    differentiable = True
    paper = bench.papers.LEVINE2019
    examples = ("samples=3", "samples=2,clip=0.05,keep=0.3", "samples=2,units=pixel")
    samples: int = bench.param(256, "noisy copies of each image", low=1)
    noise: float = bench.param(0.1, "standard deviation, in these units", low=0)
    clip: float = bench.param(0.01, "share of the elements to clip to one", low=0, high=1)
    keep: float = bench.param(0.1, "share of the elements to keep", low=0, high=1)
    units: Literal["pixel", "range"] = bench.param("range", "pixel units, or shares of the image's range", added=True)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        def change(copies: Tensor) -> Tensor:
            return self.noise * noise.normal(copies) if self.units == "pixel" else gaussian(copies, self.noise)

        total = add_gradients(
            network,
            images,
            targets,
            self.samples,
            change,
            each=lambda gradients: keep_largest(scale_to_rank(gradients.abs(), self.clip), self.keep),
        )
        return total / self.samples
