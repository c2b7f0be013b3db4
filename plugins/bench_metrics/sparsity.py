"""Measure how few pixels carry a map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import bench


@dataclass(frozen=True)
class Sparsity(bench.Metric):
    """Take the Gini index of the clean map (Hurley and Rickard, IEEE Trans. Information Theory 2009; for explanations
    Chalasani et al., ICML 2020). It is 0 for a constant map, and 1 - 1 / P for a single one of P pixels.
    """

    name = "sparsity"
    range = (0.0, 1.0)
    help = "Gini index of the map: how few pixels carry it"
    paper = bench.Paper(
        "Concise Explanations of Neural Networks using Adversarial Training",
        "Prasad Chalasani and Jiefeng Chen and Amrita Roy Chowdhury and Xi Wu and Somesh Jha",
        "ICML",
        2020,
        "https://arxiv.org/abs/1810.06583",
    )

    def __call__(self, clean_maps: Tensor) -> Tensor:
        ordered = clean_maps.flatten(1).double().sort(dim=1).values
        count = ordered.shape[1]
        place = torch.arange(1, count + 1, dtype=torch.float64, device=ordered.device)
        return 1 - 2 * (ordered * (count - place + 0.5)).sum(1) / count / ordered.sum(1)
