"""Measure the size of the attacked mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import bench


@dataclass(frozen=True)
class MaskL1(bench.Metric):
    """Add up the explainer's mask of the attacked image (figure 3 of Lim et al., CVPR 2021). The sum is over all
    channels; with relative=true, it is divided by that of the clean image. Undefined where one of the two is zero.
    """

    name = "mask_l1"
    better = "lower"
    range = (0.0, None)
    help = "sum of the attacked image's mask"
    paper = bench.papers.LIM2021
    examples = ("", "relative=true")
    relative: bool = bench.param(False, "whether to divide by the sum of the clean image's mask")

    def __call__(self, clean_masks: Tensor, attacked_masks: Tensor) -> Tensor:
        clean, attacked = (masks.double().sum((1, 2, 3)) for masks in (clean_masks, attacked_masks))
        return torch.where((clean > 0) & (attacked > 0), attacked / clean if self.relative else attacked, torch.nan)
