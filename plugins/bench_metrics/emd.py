"""Measure how far the mass of a map has to travel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

import bench
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class EMD(bench.Metric):
    """Take the earth mover's distance between clean and attacked map, in pixels. It is the least mean distance over
    which to carry the mass of one to make the other. Unlike overlaps, it counts a move to the next pixel as small.

    It is sliced (Bonneel et al., JMIV 2015): the mean, over directions spread evenly over the half circle, from the
    rows on, of the 1-Wasserstein distance between the maps projected on a line. So it is never above the distance in
    the plane, and with many directions never below 2 / pi of `center_shift`, which it is for a map that is only
    shifted.
    """

    name = "emd"
    better = "lower"
    unit = "px"
    range = (0.0, None)
    help = "sliced earth mover's distance between clean and attacked map"
    paper = bench.Paper(
        "Sliced and Radon Wasserstein Barycenters of Measures",
        "Nicolas Bonneel and Julien Rabin and Gabriel Peyré and Hanspeter Pfister",
        "Journal of Mathematical Imaging and Vision",
        2015,
        "https://doi.org/10.1007/s10851-014-0506-3",
    )
    examples = ("", "directions=4")
    directions: int = bench.param(16, "directions to project on; 2 are rows and columns", low=2)

    def __call__(self, clean_maps: Tensor, attacked_maps: Tensor) -> Tensor:
        distances = sliced_wasserstein(clean_maps, attacked_maps, self.directions)
        return where_defined(distances, clean_maps, attacked_maps)


def sliced_wasserstein(first: Tensor, second: Tensor, directions: int) -> Tensor:
    """Return the mean 1-Wasserstein distance of each pair of maps, projected on each direction: (N, H, W), (N, H, W)
    -> (N,) in float64, in pixels."""
    a, b = (maps.flatten(1).double() for maps in (first, second))
    change = a / a.sum(1, keepdim=True) - b / b.sum(1, keepdim=True)
    rows, columns = (torch.arange(size, dtype=torch.float64, device=first.device) for size in first.shape[1:])
    total = change.new_zeros(len(change))
    for k in range(directions):
        angle = math.pi * k / directions
        place = (math.cos(angle) * rows[:, None] + math.sin(angle) * columns).flatten()
        place, order = place.sort()
        # Between one point and the next lies the difference of the masses before: |F - G|, integrated.
        total += change[:, order].cumsum(1)[:, :-1].abs() @ place.diff()
    return total / directions
