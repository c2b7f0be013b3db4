"""Measure how far the gradient moves nearby."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

import bench
from bench.gradients import input_gradient
from bench_metrics.geometry import Nearby


@dataclass(frozen=True)
class L2Criterion(Nearby):
    """Average the l2 distance between gradients at an image and at noisy copies (l2 robust criterion; Joo et al., AAAI
    2023). The distance is |g(x + r) - g(x)|_2 over the draws of r of `crc`, where g is the gradient of the class's
    logit. The defenses `l2` and `l2_cosd` lower it with step=uniform, in normalised units.

    In pixel units. A network whose last layer is half as large has half of it, and the same maps (their lemma 3); `crc`
    does not change then (their proposition 5).
    """

    name = "l2_criterion"
    range = (0.0, None)
    help = "l2 distance of the signed gradients of noisy and clean image"
    paper = bench.papers.JOO2023

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, step: Tensor) -> Tensor:
        here, there = (input_gradient(network, at, targets).flatten(1).double() for at in (images, images + step))
        return (there - here).norm(dim=1)
