"""Keep the value and the direction of gradients under noise."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from torch import nn

import bench
from bench_defenses.alignment import alignment_loss


@dataclass(frozen=True)
class L2Cosd(bench.Defense):
    """Keep the input gradient and its direction under noise (Joo et al., AAAI 2023, eq. 5). The loss is the
    cross-entropy and two distances between the gradients at an image and at a noisy copy: l2, squared or not, and
    cosine, as `alignment_loss` has them. The default weights are the paper's for LeNet, for the squared distance.
    """

    name = "l2_cosd"
    paper = bench.papers.JOO2023
    examples = ("", "power=1")
    l2: float = bench.param(0.1, "weight of the l2 distance, to its power", low=0)
    cosine: float = bench.param(1.0, "weight of half the cosine distance", low=0)
    eps: Fraction = bench.param(Fraction(4, 255), "half-width of the uniform noise, in pixel units", low=0, high=1)
    power: Literal[1, 2] = bench.param(
        2, "power of the l2 distance: 2 as in the authors' code, 1 as printed", added=True
    )

    def train(self, fit: bench.Fit) -> nn.Module:
        return fit.minimise(
            fit.fresh(),
            lambda network, batch: alignment_loss(network, batch, self.l2, self.cosine, self.eps, self.power),
        )
