"""How much the direction of the gradient can turn close by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import bench
from bench.gradients import hessian_vector_product, input_gradient
from bench_metrics.geometry import Close, flat_second


@dataclass(frozen=True)
class CRCBound(Close):
    """|H r| / |gradient at x + r|, mean over draws of r from a normal distribution of deviation eps, with the Hessian H
    of the class's logit: the upper bound of `crc`, up to terms of higher order in r (Joo et al., AAAI 2023, theorem 2,
    in the tighter form that they plot).

    Loose by construction: it falls with eps, and `crc` with its square. Max-pooling breaks it: where a winner changes,
    gradients jump, and no derivative foresees that; on such networks `crc` may exceed it. Undefined where the gradient
    at x + r is zero; refused for networks whose logits are piecewise linear, where it is zero and bounds nothing across
    kinks.
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
