"""Compare what theory promises of SmoothGrad and of the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

import bench
from bench.copies import value_range
from bench.gradients import differentiating, slope
from bench_metrics.curves import probability


@dataclass(frozen=True)
class SmoothGradBound(bench.Metric):
    """Divide the bound on how fast SmoothGrad changes by the gradient's (Wang et al., NeurIPS 2020). The first is 2 F /
    s^2 with noise s (theorem 2). The second is 2 L / eps at an l2 distance of eps, and more nearer by (theorem 1).
    Below 1, s > sqrt(eps F / L), and SmoothGrad has the smaller bound (their proposition 2).

    Both are of the probability of the class, so F, its largest value, is 1. L is the largest length of its gradient at
    the image and at random ones within eps. A larger one may lie between these, so the score may be too high, and never
    too low. Undefined where all gradients are zero. A bound says nothing about the maps of one image: theirs is
    `local_lipschitz`.
    """

    name = "smoothgrad_bound"
    better = "lower"
    range = (0.0, None)
    help = "bound on the change of smoothgrad, as a share of that of the gradient"
    paper = bench.papers.WANG2020
    examples = ("", "eps=1/10,draws=2")
    noise: float = bench.param(0.1, "standard deviation s, as a share of the image's range", low=1e-6)
    eps: Fraction = bench.param(Fraction(1, 2), "l2 radius, in pixel units", low=0)
    draws: int = bench.param(10, "images drawn around each", low=1)

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, seed: int, test_data: bench.Data) -> Tensor:
        def ratios(images: Tensor, targets: Tensor) -> Tensor:
            places = [images, *(bench.Ball("l2", self.eps).sample(images) for _ in range(self.draws))]
            lengths = [steepness(network, place, targets) for place in places]
            deviation = self.noise * value_range(images).flatten().double()
            ratio = float(self.eps) / (torch.stack(lengths).amax(0) * deviation.square())
            return torch.where(ratio.isfinite(), ratio, torch.nan)

        return bench.chunked(ratios, images, targets, seed=seed, name=self.name, indices=test_data.rows)


def steepness(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return the l2 length of the gradient of each target's probability: (B, C, H, W), (B,) -> (B,) in float64."""
    with differentiating(images.detach()) as inputs:
        gradient = slope(probability(network, inputs, targets), inputs)
    return gradient.flatten(1).double().norm(dim=1)
