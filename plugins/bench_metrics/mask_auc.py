"""Test a map as a detector of the object."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench_metrics.localisation import VOID, off_void, where_present
from bench_metrics.spearman import average_ranks


@dataclass(frozen=True)
class MaskAUC(bench.Metric):
    """Take the chance that a pixel on the object is more important than one off it (Fawcett, Pattern Recognition
    Letters 2006). This is the area under the receiver operating characteristic of the clean map as a detector of the
    object.

    Equal pixels count half, so chance is 1/2, whatever the object's size; a constant map has it as well. Unlike
    `mask_overlap`, it counts all pixels. Void pixels do not count. Undefined where a map is zero, or where all pixels
    or none are on the object.
    """

    name = "mask_auc"
    range = (0.0, 1.0)
    help = "chance that a pixel on the object is more important than one off it"
    paper = bench.Paper(
        "An introduction to ROC analysis",
        "Tom Fawcett",
        "Pattern Recognition Letters",
        2006,
        "https://doi.org/10.1016/j.patrec.2005.10.010",
    )

    def __call__(self, clean_maps: Tensor, object_masks: Tensor) -> Tensor:
        masks = object_masks.flatten(1)
        maps = off_void(clean_maps, object_masks).flatten(1)
        return where_present(detect(maps, masks > VOID, (masks == VOID).sum(1)), clean_maps, object_masks)


def detect(values: Tensor, inside: Tensor, void: Tensor | int = 0) -> Tensor:
    """Return the chance that a value inside is larger than one outside: (N, P), (N, P) bool -> (N,) in float64.

    Equal ones count half. The `void` smallest values of each row, (N,), do not count. NaN where one side is empty.
    """
    size = inside.sum(1).double()
    # Of the rank of a value inside, void ones take `void`, and others inside a half of their number on average.
    wins = (average_ranks(values) * inside).sum(1) - size * (void + (size + 1) / 2)
    return wins / (size * ((~inside).sum(1) - void))
