"""Measure how much the gradient turns nearby."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench.gradients import input_gradient
from bench_metrics.geometry import Nearby


@dataclass(frozen=True)
class CRC(Nearby):
    """Average the cosine distance between gradients at an image and at noisy copies (cosine robust criterion; Joo et
    al., AAAI 2023). The distance is (1 - cos(g(x + r), g(x))) / 2, where g is the gradient of the class's logit. r has
    normal elements with deviation eps, as in their code, or with step=unit the length eps, as in their theorem 6.

    Gradients are signed, by all elements, and in pixel units; unrelated ones score 1/2. This is a property of the
    network, whatever explains it. Undefined where a gradient is zero. x + r may leave [0, 1], so that r is the same as
    in `crc_bound`; the authors' code clips it for one of the two.
    """

    name = "crc"
    range = (0.0, 1.0)
    help = "(1 - cosine) / 2 of the signed gradients of noisy and clean image"
    paper = bench.papers.JOO2023

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, step: Tensor) -> Tensor:
        here, there = (input_gradient(network, at, targets).flatten(1).double() for at in (images, images + step))
        values = ((1 - F.cosine_similarity(here, there, dim=1, eps=0)) / 2).clamp(min=0)  # against rounding
        return torch.where(here.any(1) & there.any(1), values, torch.nan)
