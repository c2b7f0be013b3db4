"""Measure how far the attack moves images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

import bench


@dataclass(frozen=True)
class Perturbation(bench.Metric):
    """Take the norm of the difference of attacked and clean image, in pixel units. The norm is l2 or linf, and over all
    elements."""

    name = "perturbation"
    better = "lower"
    range = (0.0, None)
    help = "size of the change of the image"
    examples = ("", "norm=linf")
    norm: Literal["l2", "linf"] = bench.param("l2", "norm of the change")

    def __call__(self, images: Tensor, attacked_images: Tensor) -> Tensor:
        change = (attacked_images.double() - images.double()).flatten(1)
        return torch.linalg.vector_norm(change, 2 if self.norm == "l2" else torch.inf, dim=1)
