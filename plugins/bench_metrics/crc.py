"""How much the direction of the gradient turns close by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench.gradients import input_gradient
from bench_metrics.geometry import Close


@dataclass(frozen=True)
class CRC(Close):
    """Cosine robust criterion: (1 - cos of the gradients of the class's logit at x + r and at x) / 2, mean over draws
    of r from a normal distribution of deviation eps (Joo et al., AAAI 2023).

    Of signed gradients by all elements, in pixel units; unrelated ones score 1/2. A property of the network, whatever
    explains it. Undefined where a gradient is zero. x + r may leave [0, 1], so that r is that of `crc_bound`; the
    authors' code clips it for one of the two.
    """

    name = "crc"
    range = (0.0, 1.0)
    help = "(1 - cosine) / 2 of the signed gradients of noisy and clean image"
    paper = bench.papers.JOO2023

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, step: Tensor) -> Tensor:
        here, there = (input_gradient(network, at, targets).flatten(1).double() for at in (images, images + step))
        found = ((1 - F.cosine_similarity(here, there, dim=1, eps=0)) / 2).clamp(min=0)  # of rounding
        return torch.where(here.any(1) & there.any(1), found, torch.nan)
