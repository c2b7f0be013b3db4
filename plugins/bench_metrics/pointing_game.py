"""Test whether a map's highest point lies on the object."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench_metrics.localisation import VOID, off_void, where_present


@dataclass(frozen=True)
class PointingGame(bench.Metric):
    """Score 1 where the most important pixel of the clean map lies on the object (Zhang et al., IJCV 2018; without
    their margin of 15 pixels). Otherwise, the score is 0. Where several pixels are most important, all of them must lie
    there. Void pixels do not count.
    """

    name = "pointing_game"
    version = 2
    range = (0.0, 1.0)
    grain = 1.0
    help = "share of maps whose highest point lies on the object"
    paper = bench.Paper(
        "Top-Down Neural Attention by Excitation Backprop",
        "Jianming Zhang and Sarah Adel Bargal and Zhe Lin and Jonathan Brandt and Xiaohui Shen and Stan Sclaroff",
        "IJCV",
        2018,
        "https://arxiv.org/abs/1608.00507",
    )

    def __call__(self, clean_maps: Tensor, object_masks: Tensor) -> Tensor:
        maps = off_void(clean_maps, object_masks).flatten(1)
        beside = (maps == maps.max(1, keepdim=True).values) & (object_masks.flatten(1) <= VOID)
        return where_present((~beside.any(1)).double(), clean_maps, object_masks)
