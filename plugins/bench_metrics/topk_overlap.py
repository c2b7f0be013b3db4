"""Count the most important pixels that stay."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench.maps import top_pixels
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class TopKOverlap(bench.Metric):
    """Take the share of the clean map's k most important pixels that are among the attacked map's (Ghorbani et al.,
    AAAI 2019; "k-in" in the code of Wang et al., NeurIPS 2020, whose text defines the mass instead).

    Chance is k over the number of pixels. Of equal pixels, the first in reading order comes first.
    """

    name = "topk_overlap"
    range = (0.0, 1.0)
    help = "share of the k most important pixels that stay"
    paper = bench.papers.GHORBANI2019
    examples = ("", "k=5")
    k: int = bench.param(20, "number of pixels", low=1)

    def __call__(self, clean_maps: Tensor, attacked_maps: Tensor) -> Tensor:
        return where_defined(topk_overlap(clean_maps, attacked_maps, self.k), clean_maps, attacked_maps)


def topk_overlap(first: Tensor, second: Tensor, k: int, about: str = "topk_overlap") -> Tensor:
    """Return the share of the first maps' k largest pixels among the second's: (N, H, W), (N, H, W) -> (N,)."""
    return (top_pixels(first, k, about) & top_pixels(second, k, about)).sum((1, 2)).double() / k
