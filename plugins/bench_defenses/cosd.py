"""Keep the direction of gradients under noise."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from torch import nn

import bench
from bench_defenses.alignment import alignment_loss


@dataclass(frozen=True)
class Cosd(bench.Defense):
    """Keep the direction of the input gradient under noise (Joo et al., AAAI 2023, the ablation without the l2 term).
    The loss is the cross-entropy and the cosine distance between the gradients at an image and at a noisy copy, as
    `alignment_loss` has it.

    Weights of 10 and more collapse the gradients to one map for all images.
    """

    name = "cosd"
    paper = bench.papers.JOO2023
    weight: float = bench.param(1.0, "weight of half the cosine distance", low=0)
    eps: Fraction = bench.param(Fraction(4, 255), "half-width of the uniform noise, in pixel units", low=0, high=1)

    def train(self, fit: bench.Fit) -> nn.Module:
        return fit.minimise(
            fit.fresh(), lambda network, batch: alignment_loss(network, batch, 0.0, self.weight, self.eps)
        )
