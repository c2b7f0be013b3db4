"""Bound how much the gradient can turn nearby."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import bench
from bench.gradients import hessian_vector_product, input_gradient
from bench_metrics.geometry import Nearby, flat_second


@dataclass(frozen=True)
class CRCBound(Nearby):
    """Bound `crc` from above by the Hessian of the class's logit (Joo et al., AAAI 2023, theorem 6, in the tighter form
    that they plot). The bound is the mean of |H r| / |g(x + r)| over the draws of r of `crc`, where g is the gradient
    of the class's logit and H its Hessian. It holds for `crc` under the same parameters, up to terms of higher order in
    r.

    The bound is loose by construction: it falls with eps, and `crc` with the square of eps. Max-pooling breaks it:
    gradients jump where a winner changes, which no derivative foresees, so `crc` may exceed it on such networks, and on
    those whose softplus is so sharp that it bends within r. Undefined where the gradient at x + r is zero. Refused for
    networks with piecewise linear logits, where it is zero and bounds nothing across kinks.
    """

    name = "crc_bound"
    range = (0.0, None)
    help = "upper bound of crc: |Hessian times noise| over |gradient|"
    paper = bench.papers.JOO2023

    def refuse(self, case: bench.Case) -> str | None:
        return flat_second(case)

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, step: Tensor) -> Tensor:
        turned = hessian_vector_product(network, images, targets, step).flatten(1).double().norm(dim=1)
        length = input_gradient(network, images + step, targets).flatten(1).double().norm(dim=1)
        return torch.where(length > 0, turned / length, torch.nan)
