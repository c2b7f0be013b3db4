"""Measure how far a map's centre of mass moves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import bench
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class CenterShift(bench.Metric):
    """Measure how far the centre of mass of the map moves, in pixels (Ghorbani et al., AAAI 2019; "cdl" in the code of
    Wang et al., NeurIPS 2020). Unlike in their code, centres are not rounded to whole pixels.
    """

    name = "center_shift"
    better = "lower"
    unit = "px"
    range = (0.0, None)
    help = "distance between the centres of mass of clean and attacked map"
    paper = bench.papers.GHORBANI2019

    def __call__(self, clean_maps: Tensor, attacked_maps: Tensor) -> Tensor:
        distances = (center(clean_maps) - center(attacked_maps)).norm(dim=1)
        return where_defined(distances, clean_maps, attacked_maps)


def center(maps: Tensor) -> Tensor:
    """Return row and column of each map's centre of mass: (N, H, W) -> (N, 2) in float64; NaN for zero maps."""
    maps = maps.double()
    rows, columns = (torch.arange(size, dtype=torch.float64, device=maps.device) for size in maps.shape[1:])
    moments = torch.stack([(maps.sum(2) * rows).sum(1), (maps.sum(1) * columns).sum(1)], 1)
    return moments / maps.sum((1, 2))[:, None]
