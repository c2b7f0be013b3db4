"""Measure how much mass stays on the most important pixels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench.maps import top_pixels
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class TopKMass(bench.Metric):
    """Take the share of the attacked map's mass in the clean map's k most important pixels, and divide it by the clean
    map's own share: 1 where nothing changed ("k-in" in the supplement of Wang et al., NeurIPS 2020, without the
    division; their code has `topk_overlap`).

    More than 1 where an attack gathers mass on these pixels. Of equal pixels of the clean map, those with the least
    mass in the attacked one come first.
    """

    name = "topk_mass"
    version = 2
    range = (0.0, None)
    help = "mass that stays on the k most important pixels, as a share of what was there"
    examples = ("", "k=5")
    k: int = bench.param(20, "number of pixels", low=1)

    def __call__(self, clean_maps: Tensor, attacked_maps: Tensor) -> Tensor:
        least = attacked_maps.flatten(1).argsort(1)
        clean, attacked = (maps.flatten(1).double().gather(1, least) for maps in (clean_maps, attacked_maps))
        top = top_pixels(clean, self.k, self.name)  # of equal ones the first, which has the least attacked mass
        before, after = ((maps * top).sum(1) for maps in (clean, attacked))
        return where_defined(after / before, clean_maps, attacked_maps)
