"""Measure what ties leave of a map's similarity with itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

import bench
from bench_metrics.similarity import compare, no_similarity
from bench_metrics.topk_overlap import TopKOverlap


@dataclass(frozen=True)
class SelfSimilarity(bench.Metric):
    """Compare each clean map with itself: what ties cost in a similarity. This is the most that a similarity which
    counts ties against a map can give it. Below the best value for maps that are constant, sparse or rounded. A board
    adds what is missing to the ceiling of a row, since a ceiling is lowered by noise alone.
    """

    name = "self_similarity"
    help = "similarity of a map with itself: below its best value where ties leave the most important pixels open"
    examples = ("", "similarity=(cosine)")
    similarity: bench.Metric = bench.param(TopKOverlap(), "a metric of clean_maps and attacked_maps")

    @property
    def better(self) -> Literal["higher", "lower"]:
        return self.similarity.better

    @property
    def range(self) -> tuple[float | None, float | None]:
        return self.similarity.range

    @property
    def grain(self) -> float | None:
        return self.similarity.grain

    def find_problem(self) -> str | None:
        return no_similarity(self.similarity)

    def __call__(self, clean_maps: Tensor) -> Tensor:
        return compare(self.similarity, clean_maps, clean_maps)
