"""Keep the value of gradients under noise."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from torch import nn

import bench
from bench_defenses.alignment import alignment_loss


@dataclass(frozen=True)
class L2(bench.Defense):
    """Keep the input gradient where it is under noise (Joo et al., AAAI 2023, eq. 5, the ablation without the cosine
    term). The loss is the cross-entropy and the l2 distance between the gradients at an image and at a noisy copy,
    squared or not, as `alignment_loss` has it.
    """

    name = "l2"
    paper = bench.papers.JOO2023
    examples = ("", "power=1")
    weight: float = bench.param(0.1, "weight of the l2 distance, to its power", low=0)
    eps: Fraction = bench.param(Fraction(4, 255), "half-width of the uniform noise, in pixel units", low=0, high=1)
    power: Literal[1, 2] = bench.param(
        2, "power of the l2 distance: 2 as in the authors' code, 1 as printed", added=True
    )

    def train(self, fit: bench.Fit) -> nn.Module:
        return fit.minimise(
            fit.fresh(), lambda network, batch: alignment_loss(network, batch, self.weight, 0.0, self.eps, self.power)
        )
