"""How much mass stays on the most important pixels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench
from bench.maps import top_pixels
from bench_metrics.similarity import where_defined


@dataclass(frozen=True)
class TopKMass(bench.Metric):
    """Share of the attacked map's mass in the clean map's k most important pixels, over that of the clean map's own: 1
    where nothing changed (the mass in the supplement of Wang et al., NeurIPS 2020, "k-in", whose code has
    `topk_overlap`; not divided there).

    More than 1 where an attack gathers mass on them; of equal pixels the first in reading order comes first.
    """

    name = "topk_mass"
    range = (0.0, None)
    help = "mass that stays on the k most important pixels, as a share of what was there"
    examples = ("", "k=5")
    k: int = bench.param(20, "pixels", low=1)

    def __call__(self, clean_maps: Tensor, attacked_maps: Tensor) -> Tensor:
        top = top_pixels(clean_maps, self.k, self.name)
        before, after = ((maps.double() * top).flatten(1).sum(1) for maps in (clean_maps, attacked_maps))
        return where_defined(after / before, clean_maps, attacked_maps)
