"""Whether another training gives the same maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import bench
from bench_metrics.retraining import swapped, used
from bench_metrics.similarity import compare, no_similarity
from bench_metrics.ssim import SSIM


@dataclass(frozen=True)
class Stability(bench.Metric):
    """Similarity of each clean map to that of a second network, trained in the same way from other initial weights and
    on other images in part, of the same class (Gong et al., CVPR 2024, who swap 1,000 training images).

    The images that come are of the split that is measured on, those that are not measured on themselves; where there
    are fewer than are asked, the metric is undefined. What trains the second network has the next seed.
    """

    name = "stability"
    help = "similarity of maps to those of a second training, from other weights and in part on other images"
    paper = bench.papers.GONG2024
    examples = ("", "similarity=(topk_overlap:k=5),swapped=0.05")
    similarity: bench.Metric = bench.param(SSIM(), "a metric of clean_maps and attacked_maps")
    swapped: float = bench.param(0.1, "share of the training images that are exchanged", low=0, high=1)

    @property
    def better(self) -> Literal["higher", "lower"]:
        return self.similarity.better

    @property
    def range(self) -> tuple[float | None, float | None]:
        return self.similarity.range

    def find_problem(self) -> str | None:
        return no_similarity(self.similarity)

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
        seed: int,
    ) -> Tensor | bench.Undefined:
        others = dataset.load(split)
        if train_data.labels is None or others.labels is None:
            raise bench.BadComponent(f"metric {self}: images of {dataset} have no labels to train on")
        free = torch.ones(len(others), dtype=torch.bool)
        data = used(train_data, schedule)
        out = _spread(len(data), round(self.swapped * len(data)))
        if split == "train":
            free[schedule.used(train_data)] = False
        free[test_data.rows.cpu()] = False
        free = free.nonzero()[:, 0]
        if len(free) < len(out):
            return bench.Undefined(
                f"{len(out)} training images are to be exchanged, and {split} has {len(free)} that are not measured "
                "on; ask for fewer samples, or a smaller share"
            )
        data = swapped(data, out, others, free[_spread(len(free), len(out))])
        second = refit(data, "swapped", seed + 1, using=("test_data",))
        return compare(self.similarity, clean_maps, explain(second, images, targets))


def _spread(count: int, chosen: int) -> Tensor:
    """Some of `count` places, evenly spread."""
    return (torch.arange(chosen) * count // max(1, chosen)).long()
