"""How well the order of the pixels is kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import bench
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class Spearman(bench.Metric):
    """Spearman's rank correlation of clean and attacked map, per image; ties have their average rank.

    Undefined where a map is constant. "cor" in Wang et al. (NeurIPS 2020); implementations that rank by argsort are
    arbitrary on sparse maps.
    """

    name = "spearman"
    range = (-1.0, 1.0)
    help = "rank correlation of clean and attacked map"

    def __call__(self, clean_maps: Tensor, attacked_maps: Tensor) -> Tensor:
        return where_defined(spearman(clean_maps, attacked_maps), clean_maps, attacked_maps)


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Rank correlation per pair of maps, (N, H, W), (N, H, W) -> (N,); NaN where all pixels of one are equal."""
    a, b = (average_ranks(maps.flatten(1)) for maps in (first, second))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()


def average_ranks(values: Tensor) -> Tensor:
    """Ranks from 1 of each row, equal values sharing the mean of theirs: (N, P) -> (N, P) in float64."""
    ordered, order = values.sort(dim=1)
    # In a sorted row the values equal to x stand from searchsorted(x, left) to searchsorted(x, right).
    first = torch.searchsorted(ordered, ordered, right=False)
    last = torch.searchsorted(ordered, ordered, right=True)
    ranks = (first + last + 1).double() / 2
    return torch.empty_like(ranks).scatter_(1, order, ranks)
