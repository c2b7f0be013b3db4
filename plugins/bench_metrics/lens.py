"""Count the most important pixels that stay nearby."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

import bench
from bench.maps import top_pixels
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class LENS(bench.Metric):
    """Count a top pixel as kept if it lies near one of the other map's (w-LENS-top-k; Kamath et al., AAAI 2024). The
    score is the share of one map's k most important pixels that lie in a window around one of the other map's k.
    "recall" counts pixels of the attacked map near those of the clean one, "precision" pixels of the clean map near
    those of the attacked one, as in the authors' code.

    With window=1, it is `topk_overlap`, but of equal pixels the first in reading order is taken; pixels that are zero
    never match. With diverse=true, the k pixels are chosen one by one, each outside the windows of those before it
    (top-k-div), until the image is full, and the share is of those chosen. In the authors' code a window at the edge
    goes on in the next row; here it ends. Undefined where a map is zero.
    """

    name = "lens"
    range = (0.0, 1.0)
    help = "share of the k most important pixels that stay within a window"
    paper = bench.Paper(
        "Rethinking Robustness of Model Attributions",
        "Sandesh Kamath and Sankalp Mittal and Amit Deshpande and Vineeth N Balasubramanian",
        "AAAI",
        2024,
        "https://arxiv.org/abs/2312.10534",
    )
    examples = ("", "k=5,window=5,side=precision", "k=5,diverse=true")
    k: int = bench.param(20, "number of pixels", low=1)
    window: int = bench.param(3, "side of the window, in pixels, an odd number", low=1)
    side: Literal["recall", "precision"] = bench.param("recall", "whose pixels count, the attacked or the clean map's")
    diverse: bool = bench.param(False, "whether each of the k pixels lies outside the windows of those before it")

    def find_problem(self) -> str | None:
        return None if self.window % 2 else f"window is {self.window}, has no pixel in its middle; use an odd number"

    def __call__(self, clean_maps: Tensor, attacked_maps: Tensor) -> Tensor:
        maps, others = (attacked_maps, clean_maps) if self.side == "recall" else (clean_maps, attacked_maps)
        counted = self._choose(maps)
        near = widen(self._choose(others) & (others > 0), self.window)
        scores = (counted & near & (maps > 0)).sum((1, 2)).double() / counted.sum((1, 2))
        return where_defined(scores, clean_maps, attacked_maps)

    def _choose(self, maps: Tensor) -> Tensor:
        if not self.diverse:
            return top_pixels(maps, self.k, f"metric {self}")
        chosen, free = torch.zeros_like(maps, dtype=torch.bool), torch.ones_like(maps, dtype=torch.bool)
        for _ in range(self.k):
            best = top_pixels(torch.where(free, maps, -1), 1) & free
            chosen |= best
            free &= ~widen(best, self.window)
        return chosen


def widen(marks: Tensor, window: int) -> Tensor:
    """Mark all pixels in a square window around those marked: (N, H, W) bool -> (N, H, W) bool."""
    return F.max_pool2d(marks[:, None].float(), window, 1, window // 2)[:, 0].bool()
