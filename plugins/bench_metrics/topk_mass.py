"""Measure how much mass stays on the most important pixels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench.maps import top_pixels
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class TopKMass(bench.Metric):
    """Take the mass that the attacked map leaves in the clean map's k top pixels. It is divided by the clean map's own
    share of mass there: 1 where nothing changed. divide=false is "k-in" as the supplement of Wang et al., NeurIPS 2020,
    prints it: the attacked share alone, at most 1. Their code has `topk_overlap`.

    Divided, it is more than 1 where an attack gathers mass on these pixels. Of equal pixels of the clean map, those
    with the least mass in the attacked one come first.
    """

    name = "topk_mass"
    version = 2
    help = "mass that stays on the k most important pixels, as a share of what was there"
    examples = ("", "k=5", "divide=false")
    k: int = bench.param(20, "number of pixels", low=1)
    divide: bool = bench.param(True, "whether to divide by the clean map's own share", added=True)

    @property
    def range(self) -> tuple[float | None, float | None]:
        return (0.0, None) if self.divide else (0.0, 1.0)

    def __call__(self, clean_maps: Tensor, attacked_maps: Tensor) -> Tensor:
        least = attacked_maps.flatten(1).argsort(1)
        clean, attacked = (maps.flatten(1).double().gather(1, least) for maps in (clean_maps, attacked_maps))
        top = top_pixels(clean, self.k, self.name)  # of equal ones the first, which has the least attacked mass
        before, after = ((maps * top).sum(1) for maps in (clean, attacked))
        return where_defined(after / before if self.divide else after.clamp(max=1), clean_maps, attacked_maps)
