"""Measure how fast a map changes nearby."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

import bench
from bench import noise
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class LocalLipschitz(bench.Metric):
    """Take the largest change of the map per change of the image, near the image (Alvarez-Melis and Jaakkola, WHI 2018,
    eq. 2; random draws bound their maximum from below). The ratio is |map(x') - map(x)| / |x' - x|, in l2, for the same
    class, over images x' drawn uniformly from the linf ball around x.

    Maps sum to one, so scale does not count. An explainer that draws noise draws it afresh. Undefined where the map of
    the image is zero, or the maps of all drawn images that differ from it.
    """

    name = "local_lipschitz"
    better = "lower"
    range = (0.0, None)
    help = "largest change of the map relative to that of the image, over random draws nearby"
    paper = bench.Paper(
        "On the Robustness of Interpretability Methods",
        "David Alvarez-Melis and Tommi S. Jaakkola",
        "ICML Workshop on Human Interpretability in Machine Learning",
        2018,
        "https://arxiv.org/abs/1806.08049",
    )
    examples = ("", "eps=16/255,draws=2")
    eps: Fraction = bench.param(Fraction(8, 255), "half-width of the ball, in pixel units", low=1e-6, high=1)
    draws: int = bench.param(10, "images drawn around each", low=1)

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
        largest = torch.full((len(images),), -torch.inf, dtype=torch.float64, device=images.device)
        broken = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        with noise.rows(seed, "local_lipschitz", test_data.rows):
            for _ in range(self.draws):
                moved = bench.Ball("linf", self.eps).sample(images)
                maps = explain(network, moved, targets)
                broken |= maps.isnan().flatten(1).any(1)
                far, moves = ((a - b).double().flatten(1).norm(dim=1) for a, b in ((maps, clean_maps), (moved, images)))
                ratio = torch.where(moves > 0, far / moves, torch.nan)
                largest = torch.fmax(largest, where_defined(ratio, clean_maps, maps))
        return torch.where(largest.isfinite() & ~broken, largest, torch.nan)
