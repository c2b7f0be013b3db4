"""Count the most important elements that stay."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import bench
from bench.maps import least_overlap, top_elements


@dataclass(frozen=True)
class TopKOverlapElements(bench.Metric):
    """Take the share of the clean attribution's largest elements that stay largest. Elements are those of all channels,
    not pixels, and their number is a share of the clean elements that are not zero (Gong et al., CVPR 2024, after the
    code of MoreauGrad).

    These are elements, not pixels, so it does not compare with `topk_overlap`, but ties count as there: of all ways to
    break them, the one that keeps the fewest.
    """

    name = "topk_overlap_elements"
    version = 2
    range = (0.0, 1.0)
    help = "share of the largest elements of all channels that stay"
    paper = bench.papers.GONG2024
    examples = ("", "share=0.1")
    share: float = bench.param(0.4, "share of the nonzero elements that count as largest", low=0, high=1)

    def __call__(self, clean_attributions: Tensor, attacked_attributions: Tensor) -> Tensor:
        count = top_elements(clean_attributions, self.share).sum((1, 2, 3))
        kept = least_overlap(clean_attributions.abs(), attacked_attributions.abs(), count)
        defined = clean_attributions.flatten(1).any(1) & attacked_attributions.flatten(1).any(1)
        return torch.where(defined, kept.double() / count, torch.nan)
