"""Count the top pixels that people looked at."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench_metrics.similarity import where_defined
from bench_metrics.topk_overlap import topk_overlap


@dataclass(frozen=True)
class GazeOverlap(bench.Metric):
    """Take the share of the clean map's top pixels among those of the gaze map (Gong et al., CVPR 2024, at 5% and 10%).
    Both maps have equally many. Chance is the share itself. Of all ways to break ties, in both maps, the one with the
    smallest overlap counts. Undefined where one of the two maps is zero.
    """

    name = "gaze_overlap"
    version = 2
    range = (0.0, 1.0)
    help = "share of the most important pixels that are among the most looked at"
    paper = bench.papers.GONG2024
    examples = ("", "share=0.1")
    share: float = bench.param(0.05, "share of all pixels that count as most important", low=0, high=1)

    def __call__(self, clean_maps: Tensor, gaze: Tensor) -> Tensor:
        count = max(1, round(self.share * clean_maps[0].numel()))
        return where_defined(topk_overlap(clean_maps, gaze, count), clean_maps, gaze)
