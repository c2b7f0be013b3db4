"""Measure how similar maps stay under random noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor, nn

import bench
from bench import noise
from bench_metrics.cosine import Cosine
from bench_metrics.similarity import compare, no_similarity


@dataclass(frozen=True)
class RPS(bench.Metric):
    """Average the similarity between the maps of noisy copies and the clean image (random perturbation similarity; Joo
    et al., AAAI 2023). The noise is uniform in the linf ball, and the class explained is the same.

    Noisy images are clipped to [0, 1]; the authors clip to the range of the batch. An explainer that draws noise draws
    it afresh for every map, so it does not reach the best value at eps=0. A defense that has collapsed to one map for
    all images scores best, so look at `insertion` and `data_dependence` as well.
    """

    name = "rps"
    help = "similarity between the map of an image and its maps under random noise"
    paper = bench.papers.JOO2023
    examples = ("", "similarity=(spearman),eps=8/255,draws=3")
    similarity: bench.Metric = bench.param(Cosine(), "a metric of clean_maps and attacked_maps")
    eps: Fraction = bench.param(Fraction(16, 255), "half-width of the noise, in pixel units", low=0, high=1)
    draws: int = bench.param(10, "noisy copies of each image", low=1)

    @property
    def better(self) -> Literal["higher", "lower"]:
        return self.similarity.better

    @property
    def range(self) -> tuple[float | None, float | None]:
        return self.similarity.range

    @property
    def grain(self) -> float | None:
        grain = self.similarity.grain
        return None if grain is None else grain / self.draws

    def find_problem(self) -> str | None:
        return no_similarity(self.similarity)

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
        scores = []
        with noise.rows(seed, "rps", test_data.rows):
            for _ in range(self.draws):
                noisy = (images + float(self.eps) * noise.uniform(images)).clamp(0, 1)
                scores.append(compare(self.similarity, clean_maps, explain(network, noisy, targets)))
        return torch.stack(scores).mean(0)
