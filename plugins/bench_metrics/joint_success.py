"""Count attacks that change the prediction and hide it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import bench
from bench_metrics.similarity import compare, no_similarity
from bench_metrics.topk_overlap import TopKOverlap


@dataclass(frozen=True)
class JointSuccess(bench.Metric):
    """Score 1 where an attack changes the prediction and the map does not tell (after ADV^2; Zhang et al., USENIX
    Security 2020, who print the share of changed predictions and the distance of the maps apart). The map does not tell
    if the attacked image's, for its own prediction, is at least as similar to the clean image's as `level` says.
    Otherwise, the score is 0.

    Undefined where the prediction changes and one of the maps is zero.
    """

    name = "joint_success"
    better = "lower"
    range = (0.0, 1.0)
    grain = 1.0
    help = "share of images whose prediction the attack changes while the map stays as it was"
    paper = bench.papers.ZHANG2020
    examples = ("", "similarity=(cosine),level=0.9")
    similarity: bench.Metric = bench.param(TopKOverlap(), "a metric of clean_maps and attacked_maps")
    level: float = bench.param(0.5, "similarity from which on the map does not tell; a distance must be at most so")

    def find_problem(self) -> str | None:
        return no_similarity(self.similarity)

    def __call__(
        self,
        explain: Callable[..., Tensor],
        network: nn.Module,
        attacked_images: Tensor,
        clean_maps: Tensor,
        clean_logits: Tensor,
        attacked_logits: Tensor,
    ) -> Tensor:
        own = attacked_logits.argmax(1)
        scores = compare(self.similarity, clean_maps, explain(network, attacked_images, own))
        alike = scores >= self.level if self.similarity.better == "higher" else scores <= self.level
        flipped = own != clean_logits.argmax(1)
        return (alike & flipped).double().masked_fill(flipped & scores.isnan(), torch.nan)
