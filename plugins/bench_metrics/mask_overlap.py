"""How many of a map's first pixels lie on the object."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import bench
from bench_metrics.localisation import defined
from bench_metrics.papers import ARRAS2022


@dataclass(frozen=True)
class MaskOverlap(bench.Metric):
    """Of as many of the clean map's most important pixels as the object has, the share inside its mask ("relevance rank
    accuracy" of Arras et al., Information Fusion 2022). Of equal pixels the first in reading order comes first."""

    name = "mask_overlap"
    range = (0.0, 1.0)
    help = "share of the most important pixels, as many as the object has, that lie on it"
    paper = ARRAS2022

    def __call__(self, clean_maps: Tensor, object_masks: Tensor) -> Tensor:
        inside = (object_masks > 0).flatten(1)
        order = clean_maps.flatten(1).argsort(dim=1, descending=True, stable=True)
        size = inside.sum(1)
        first = torch.arange(order.shape[1], device=order.device) < size[:, None]
        found = (inside.gather(1, order) & first).sum(1).double() / size
        return defined(found, clean_maps, object_masks)
