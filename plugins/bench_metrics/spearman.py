"""Correlate the ranks of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import bench
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class Spearman(bench.Metric):
    """Take Spearman's rank correlation between clean and attacked map, per image. Ties share their average rank.

    Undefined where a map is constant. It is "cor" in Wang et al. (NeurIPS 2020). Implementations that rank by argsort
    are arbitrary on sparse maps.
    """

    name = "spearman"
    range = (-1.0, 1.0)
    help = "rank correlation between clean and attacked map"

    def __call__(self, clean_maps: Tensor, attacked_maps: Tensor) -> Tensor:
        return where_defined(spearman(clean_maps, attacked_maps), clean_maps, attacked_maps)


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Return the rank correlation of each pair of maps: (N, H, W), (N, H, W) -> (N,); NaN for constant maps."""
    a, b = (average_ranks(maps.flatten(1)) for maps in (first, second))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()


def average_ranks(values: Tensor) -> Tensor:
    """Rank each row from 1; equal values share the mean of their ranks: (N, P) -> (N, P) in float64."""
    ordered, order = values.sort(dim=1)
    # In a sorted row, the values equal to x lie between searchsorted(x, left) and searchsorted(x, right).
    first = torch.searchsorted(ordered, ordered, right=False)
    last = torch.searchsorted(ordered, ordered, right=True)
    ranks = (first + last + 1).double() / 2
    return torch.empty_like(ranks).scatter_(1, order, ranks)
