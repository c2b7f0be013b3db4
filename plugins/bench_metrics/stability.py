"""Test whether another training gives the same maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import bench
from bench_metrics.retraining import restrict, swap
from bench_metrics.similarity import compare, compares, no_similarity
from bench_metrics.ssim import SSIM


@dataclass(frozen=True)
class Stability(bench.Metric):
    """Compare each clean map with that of a second network, for the same class (Gong et al., CVPR 2024, who swap 1,000
    training images). The second network is trained in the same way from other initial weights and in part on other
    images.

    The new images come from the split under measurement, without the images that are measured on. Where it has too few
    of them, the metric is undefined. The second training has the next seed.
    """

    name = "stability"
    help = "similarity of maps to those of a second training, from other weights and in part on other images"
    paper = bench.papers.GONG2024
    examples = ("", "similarity=(topk_overlap:k=5),swapped=0.05", "similarity=(topk_overlap_elements)")
    similarity: bench.Metric = bench.param(SSIM(), "a metric of two maps, or of two attributions")
    swapped: float = bench.param(0.1, "share of the training images to exchange", low=0, high=1)

    @property
    def better(self) -> Literal["higher", "lower"]:
        return self.similarity.better

    @property
    def range(self) -> tuple[float | None, float | None]:
        return self.similarity.range

    @property
    def grain(self) -> float | None:
        return self.similarity.grain

    def find_problem(self) -> str | None:
        return None if compares(self.similarity, "attributions") else no_similarity(self.similarity)

    def __call__(
        self,
        refit: Callable[..., nn.Module],
        dataset: bench.Dataset,
        split: str,
        train_data: bench.Data,
        test_data: bench.Data,
        schedule: bench.Schedule,
        explain: Callable[..., Tensor],
        images: Tensor,
        targets: Tensor,
        clean_maps: Tensor,
        clean_attributions: Tensor,
        seed: int,
    ) -> Tensor | bench.Undefined:
        others = dataset.load(split)
        if train_data.labels is None or others.labels is None:
            raise bench.BadComponent(f"metric {self}: images of {dataset} have no labels to train on")
        free = torch.ones(len(others), dtype=torch.bool)
        data = restrict(train_data, schedule)
        out = _space_evenly(len(data), round(self.swapped * len(data)))
        if split == "train":
            free[schedule.used(train_data)] = False
        free[test_data.rows.cpu()] = False
        free = free.nonzero()[:, 0]
        if len(free) < len(out):
            return bench.Undefined(
                f"{len(out)} training images are to be exchanged, but {split} has only {len(free)} that are not "
                "measured on; use fewer samples, or a smaller share"
            )
        data = swap(data, out, others, free[_space_evenly(len(free), len(out))])
        second = refit(data, "swapped", seed + 1, using=("test_data",))
        if compares(self.similarity, "attributions"):
            other = explain(second, images, targets, raw=True)
            return compare(self.similarity, clean_attributions, other, "attributions")
        return compare(self.similarity, clean_maps, explain(second, images, targets))


def _space_evenly(count: int, number: int) -> Tensor:
    """Choose a number of `count` places, evenly spread."""
    return (torch.arange(number) * count // max(1, number)).long()
