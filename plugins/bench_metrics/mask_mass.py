"""Measure how much of a map lies on the object."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench_metrics.localisation import ARRAS2022, VOID, where_present


@dataclass(frozen=True)
class MaskMass(bench.Metric):
    """Take the share of the clean map's mass inside the object mask ("relevance mass accuracy" of Arras et al.,
    Information Fusion 2022). Chance is the object's share of the image. Void pixels do not count."""

    name = "mask_mass"
    range = (0.0, 1.0)
    help = "share of the map's mass on the object"
    paper = ARRAS2022

    def __call__(self, clean_maps: Tensor, object_masks: Tensor) -> Tensor:
        maps = clean_maps.double().where(object_masks != VOID, 0)
        inside = (maps * (object_masks > VOID)).sum((1, 2))
        return where_present(inside / maps.sum((1, 2)), clean_maps, object_masks)
