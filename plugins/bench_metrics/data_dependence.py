"""Measure how alike the maps of different images are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

import bench
from bench import noise
from bench_metrics.cosine import Cosine
from bench_metrics.similarity import Sanity, compare


@dataclass(frozen=True)
class DataDependence(Sanity):
    """Compare each clean map with another image's: the chance level of a similarity. The other image is drawn once for
    all. A defense whose maps hardly depend on the image scores high here, and in `rps` too.

    A collapsed network has one map for each class. With within=class, the other image has the same explained class,
    where there is one.
    """

    name = "data_dependence"
    help = "similarity of maps of different images: the chance level, high where a defense has collapsed"
    examples = ("", "similarity=(spearman),within=class")
    similarity: bench.Metric = Cosine()
    within: Literal["all", "class"] = bench.param("all", "images to draw the other one from")

    def __call__(self, clean_maps: Tensor, targets: Tensor, test_data: bench.Data) -> Tensor | bench.Undefined:
        if len(clean_maps) < 2:
            return bench.Undefined("there is one image, and no other to compare it with")
        others = partners(targets if self.within == "class" else torch.zeros_like(targets), test_data.rows)
        return compare(self.similarity, clean_maps, clean_maps[others])


def partners(groups: Tensor, indices: Tensor) -> Tensor:
    """Choose another row for each, of the same group where possible: (N,), (N,) -> (N,).

    It is the next one in an order drawn for the images' indices.
    """
    with noise.rows(0, "data_dependence", indices):
        order = noise.uniform(torch.empty(len(groups), 1))[:, 0].argsort().to(groups.device)
    others = torch.empty_like(order)
    others[order] = order.roll(-1)
    for group in groups.unique():
        mine = order[groups[order] == group]
        if len(mine) > 1:
            others[mine] = mine.roll(-1)
    return others
