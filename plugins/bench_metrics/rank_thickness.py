"""Measure how long the most important pixels stay ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

import bench
from bench import noise, papers
from bench.maps import top_pixels
from bench_metrics.mask_auc import detect


@dataclass(frozen=True)
class RankThickness(bench.Metric):
    """Take the chance that top pixels stay ahead of others on the way to images nearby (top-k ranking thickness; Chen
    et al., NeurIPS 2024). This is the mean over all pairs of one of the clean map's k most important pixels and one of
    the others, over images x' near the image x, and over x + t (x' - x) for t between 0 and 1.

    Here x' is drawn uniformly from the linf ball around x and clipped to an image, and t takes the middles of equal
    parts. Equal pixels count half instead of in favour of the map, so a constant map has 1/2. Chance is 1/2. An
    explainer that draws noise draws it afresh. It takes draws times points passes of the explainer. Undefined where the
    clean map is zero, or k pixels are all.
    """

    name = "rank_thickness"
    range = (0.0, 1.0)
    help = "chance that a top pixel stays ahead of another one, on the way to images drawn nearby"
    paper = papers.CHEN2024
    examples = ("", "k=5,eps=16/255,draws=2,points=2")
    k: int = bench.param(20, "number of most important pixels", low=1)
    eps: Fraction = bench.param(Fraction(8, 255), "half-width of the ball, in pixel units", low=0, high=1)
    draws: int = bench.param(5, "images drawn around each", low=1)
    points: int = bench.param(4, "points on the way to each", low=1)

    def __call__(
        self,
        network: nn.Module,
        explain: Callable[..., Tensor],
        images: Tensor,
        targets: Tensor,
        clean_maps: Tensor,
        seed: int,
        test_data: bench.Data,
    ) -> Tensor:
        top = top_pixels(clean_maps, self.k, f"metric {self}").flatten(1)
        chances = []
        with noise.rows(seed, "rank_thickness", test_data.rows):
            for _ in range(self.draws):
                way = bench.Ball("linf", self.eps).sample(images) - images
                for point in range(self.points):
                    maps = explain(network, images + (point + 0.5) / self.points * way, targets).flatten(1)
                    chances.append(torch.where(maps.isnan().any(1), torch.nan, detect(maps, top)))
        return torch.where(clean_maps.flatten(1).any(1), torch.stack(chances).mean(0), torch.nan)
