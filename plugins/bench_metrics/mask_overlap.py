"""Count the top pixels that lie on the object."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench.maps import least_overlap
from bench_metrics.localisation import ARRAS2022, VOID, off_void, where_present


@dataclass(frozen=True)
class MaskOverlap(bench.Metric):
    """Take the share of the clean map's top pixels that lie on the object ("relevance rank accuracy" of Arras et al.,
    Information Fusion 2022). As many pixels count as the object has. Of equal pixels, those off the object come first.
    Void pixels do not count.
    """

    name = "mask_overlap"
    version = 2
    range = (0.0, 1.0)
    help = "share of the most important pixels, as many as the object has, that lie on it"
    paper = ARRAS2022

    def __call__(self, clean_maps: Tensor, object_masks: Tensor) -> Tensor:
        inside = object_masks > VOID
        size = inside.sum((1, 2))
        # At least one, so that an object without pixels, which where_present leaves out, is no error.
        hits = least_overlap(off_void(clean_maps, object_masks), inside.to(clean_maps), size.clamp(min=1))
        return where_present(hits.double() / size, clean_maps, object_masks)
