"""Measure the structural similarity of maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import bench
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class SSIM(bench.Metric):
    """Take the structural similarity of clean and attacked map, per image (Wang et al., IEEE TIP 2004). Each map sums
    to one. Gaussian windows have 11 pixels and a deviation of 1.5, and lie within the map; K1 = 0.01 and K2 = 0.03.

    The range is that of the two maps together. Joo et al. (2023) take that of a whole batch, and compare maps of two
    scales by mistake. On a map of fewer than 11 pixels, the window has the largest odd size that fits. Maps near zero
    are similar whatever they show, so look at `pearson` as well.
    """

    name = "ssim"
    range = (-1.0, 1.0)
    help = "structural similarity of clean and attacked map"
    paper = bench.Paper(
        "Image Quality Assessment: From Error Visibility to Structural Similarity",
        "Zhou Wang and Alan C. Bovik and Hamid R. Sheikh and Eero P. Simoncelli",
        "IEEE Transactions on Image Processing",
        2004,
        "https://doi.org/10.1109/TIP.2003.819861",
    )

    def __call__(self, clean_maps: Tensor, attacked_maps: Tensor) -> Tensor:
        return where_defined(ssim(clean_maps, attacked_maps), clean_maps, attacked_maps)


def ssim(first: Tensor, second: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Return the mean structural similarity of each pair of maps: (N, H, W), (N, H, W) -> (N,) in float64."""
    a, b = first.double()[:, None], second.double()[:, None]
    together = torch.cat([a, b], 1).flatten(1)
    span = together.amax(1) - together.amin(1)
    span = torch.where(span > 0, span, torch.ones_like(span)).view(-1, 1, 1, 1)
    side = min(window, *first.shape[1:])
    side -= 1 - side % 2
    offsets = torch.arange(side, dtype=torch.float64, device=a.device) - side // 2
    weights = (-offsets.square() / (2 * sigma**2)).exp()
    weights = weights / weights.sum()

    def blur(values: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(values, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))

    # Relative to the mean of both, which does not enter variances, and keeps them exact.
    middle = together.mean(1).view(-1, 1, 1, 1)
    da, db = a - middle, b - middle
    ma, mb, aa, bb, ab = blur(torch.cat([da, db, da * da, db * db, da * db])).chunk(5)
    va, vb, cov = aa - ma * ma, bb - mb * mb, ab - ma * mb
    ma, mb = ma + middle, mb + middle
    c1, c2 = (0.01 * span).square(), (0.03 * span).square()
    values = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
    return values.mean((1, 2, 3))
