"""Keep the value and the direction of gradients under noise."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from torch import nn

import bench
from bench_defenses.alignment import alignment_loss


@dataclass(frozen=True)
class L2Cosd(bench.Defense):
    """Minimise the cross-entropy, and the squared l2 and the cosine distance between the gradients at an image and at a
    noisy copy (Joo et al., AAAI 2023; the loss is `alignment_loss`). The default weights are the paper's for LeNet."""

    name = "l2_cosd"
    paper = bench.papers.JOO2023
    l2: float = bench.param(0.1, "weight of the squared l2 distance", low=0)
    cosine: float = bench.param(1.0, "weight of half the cosine distance", low=0)
    eps: Fraction = bench.param(Fraction(4, 255), "half-width of the uniform noise, in pixel units", low=0, high=1)

    def train(self, fit: bench.Fit) -> nn.Module:
        return fit.minimise(
            fit.fresh(), lambda network, batch: alignment_loss(network, batch, self.l2, self.cosine, self.eps)
        )
