"""How alike the maps of different images are."""

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
    """Similarity of each clean map to that of another image, drawn once and for all: what unrelated maps score, the
    chance level of the similarity. A defense whose maps hardly depend on the image scores high here, and in `rps` too.

    A collapsed network has one map for each class: with within=class the other image is of the class explained, where
    there is one.
    """

    name = "data_dependence"
    help = "similarity of maps of different images: chance, and high where a defense has collapsed"
    examples = ("", "similarity=(spearman),within=class")
    similarity: bench.Metric = Cosine()
    within: Literal["all", "class"] = bench.param("all", "which images the other one is drawn from")

    def __call__(self, clean_maps: Tensor, targets: Tensor, test_data: bench.Data) -> Tensor | bench.Undefined:
        if len(clean_maps) < 2:
            return bench.Undefined("there is one image, and no other to compare it with")
        others = partners(targets if self.within == "class" else torch.zeros_like(targets), test_data.rows)
        return compare(self.similarity, clean_maps, clean_maps[others])


def partners(groups: Tensor, indices: Tensor) -> Tensor:
    """Another row for each, of the same group where there is one: the next in an order that is drawn for the images'
    indices, (N,), (N,) -> (N,)."""
    with noise.rows(0, "data_dependence", indices):
        order = noise.uniform(torch.empty(len(groups), 1))[:, 0].argsort().to(groups.device)
    found = torch.empty_like(order)
    found[order] = order.roll(-1)
    for group in groups.unique():
        mine = order[groups[order] == group]
        if len(mine) > 1:
            found[mine] = mine.roll(-1)
    return found
