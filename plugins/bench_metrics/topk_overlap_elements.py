"""How many of the most important elements stay."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import bench
from bench_metrics.papers import GONG2024


@dataclass(frozen=True)
class TopKOverlapElements(bench.Metric):
    """Share of the clean attribution's largest elements, of all channels, that are among the attacked one's: as many as
    a share of those of the clean one that are not zero (Gong et al., CVPR 2024, after the code of MoreauGrad).

    Elements and not pixels: not comparable with `topk_overlap`. Of equal elements the first in order comes first.
    """

    name = "topk_overlap_elements"
    range = (0.0, 1.0)
    help = "share of the largest elements of all channels that stay"
    paper = GONG2024
    examples = ("", "share=0.1")
    share: float = bench.param(0.4, "of the elements that are not zero", low=0, high=1)

    def __call__(self, clean_attributions: Tensor, attacked_attributions: Tensor) -> Tensor:
        sizes = [values.abs().flatten(1) for values in (clean_attributions, attacked_attributions)]
        count = (self.share * (sizes[0] > 0).sum(1)).long().clamp(min=1)
        places = [s.argsort(dim=1, descending=True, stable=True).argsort(dim=1) for s in sizes]
        both = (places[0] < count[:, None]) & (places[1] < count[:, None])
        defined = sizes[0].any(1) & sizes[1].any(1)
        return torch.where(defined, both.sum(1).double() / count, torch.nan)
