"""Count the most important elements that stay."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import bench
from bench.maps import ranks, top_elements


@dataclass(frozen=True)
class TopKOverlapElements(bench.Metric):
    """Take the share of the clean attribution's largest elements, of all channels, that are among the attacked one's.
    Their number is a share of the clean elements that are not zero (Gong et al., CVPR 2024, after the code of
    MoreauGrad).

    These are elements, not pixels, so it does not compare with `topk_overlap`. Of equal elements, the first in order
    comes first.
    """

    name = "topk_overlap_elements"
    range = (0.0, 1.0)
    help = "share of the largest elements of all channels that stay"
    paper = bench.papers.GONG2024
    examples = ("", "share=0.1")
    share: float = bench.param(0.4, "share of the nonzero elements that count as largest", low=0, high=1)

    def __call__(self, clean_attributions: Tensor, attacked_attributions: Tensor) -> Tensor:
        top = top_elements(clean_attributions, self.share)
        count = top.sum((1, 2, 3))
        kept = top & (ranks(attacked_attributions.abs()) < count.view(-1, 1, 1, 1))
        defined = clean_attributions.flatten(1).any(1) & attacked_attributions.flatten(1).any(1)
        return torch.where(defined, kept.sum((1, 2, 3)).double() / count, torch.nan)
