"""Remove the segments of the image that matter most."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench.maps import ranks
from bench_metrics.curves import FILLS, Fill, fill_in
from bench_metrics.squares import follow


@dataclass(frozen=True)
class IROF(bench.Metric):
    """Remove the most important segments, and average the fall of the probability (iterative removal of features, area
    over the curve; Rieger and Hansen, 2020). The fall is the share of the class's probability that is gone, 1 - p_l /
    p_0, and the average is over l = 0, ..., L segments, until none is left.

    A segment's importance is the mean of the map inside it. Segments are squares here, and superpixels (SLIC) there:
    squares are the same for every image, and cut through objects. Those at the right and lower border may be smaller.
    Unlike `aopc`, it removes all, and is relative to the whole image. It takes a pass for each square and one more.
    Undefined where a map is zero, or the class's probability.
    """

    name = "irof"
    range = (None, 1.0)
    help = "share of the class's probability that is gone while the most important squares go, mean over all of them"
    paper = bench.Paper(
        "IROF: a low resource evaluation metric for explanation methods",
        "Laura Rieger and Lars Kai Hansen",
        "arXiv",
        2020,
        "https://arxiv.org/abs/2003.08747",
    )
    examples = ("", "side=3,fill=black")
    side: int = bench.param(8, "squares along the longer side of the image", low=2)
    fill: Fill = bench.param("mean", FILLS)

    def __call__(
        self, network: nn.Module, images: Tensor, targets: Tensor, clean_maps: Tensor, seed: int, test_data: bench.Data
    ) -> bench.Levels:
        region = math.ceil(max(images.shape[2:]) / self.side)
        rank = ranks(F.avg_pool2d(clean_maps.double()[:, None], region, ceil_mode=True))
        steps = rank[0].numel()

        def losses(images: Tensor, targets: Tensor, rank: Tensor) -> Tensor:
            empty = fill_in(network, images, self.fill)
            scores = follow(network, images, targets, rank, region, steps, empty).double()
            return torch.where(scores[:, :1] > 0, 1 - scores / scores[:, :1], torch.nan)

        values = bench.chunked(losses, images, targets, rank, seed=seed, name="irof", indices=test_data.rows)
        return bench.Levels(
            torch.where(clean_maps.flatten(1).any(1)[:, None], values, torch.nan),
            tuple(str(k) for k in range(steps + 1)),
        )
