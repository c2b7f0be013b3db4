"""Count the most important pixels that stay."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench.maps import least_overlap
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class TopKOverlap(bench.Metric):
    """Take the share of the clean map's k top pixels that are the attacked map's too (Ghorbani et al., AAAI 2019;
    "k-in" in the code of Wang et al., NeurIPS 2020, whose text defines the mass instead).

    Chance is k over the number of pixels. Where equal pixels, in either map, leave it open which are the k most
    important, the way to break these ties that keeps the fewest counts: a constant map keeps none, and one of three
    nonzero pixels at most three. So an unmoved map keeps all of them only where its k-th pixel has no equal.
    """

    name = "topk_overlap"
    version = 2
    range = (0.0, 1.0)
    help = "share of the k most important pixels that stay"
    paper = bench.papers.GHORBANI2019
    examples = ("", "k=5")
    k: int = bench.param(20, "number of pixels", low=1)

    @property
    def grain(self) -> float:
        return 1 / self.k

    def __call__(self, clean_maps: Tensor, attacked_maps: Tensor) -> Tensor:
        return where_defined(topk_overlap(clean_maps, attacked_maps, self.k), clean_maps, attacked_maps)


def topk_overlap(first: Tensor, second: Tensor, k: int, about: str = "topk_overlap") -> Tensor:
    """Return the share of the first maps' k largest pixels among the second's, ties broken for the fewest: (N, H, W),
    (N, H, W) -> (N,)."""
    return least_overlap(first, second, k, about).double() / k
