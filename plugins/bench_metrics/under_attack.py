"""Test attacked maps by a metric of clean ones."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

import bench
from bench_metrics.insertion import Insertion

MAPS = {f"clean_{form}": f"attacked_{form}" for form in ("attributions", "maps", "masks")}
TAKEN = {*MAPS, "network", "images", "targets", "seed", "test_data"}


@dataclass(frozen=True)
class UnderAttack(bench.Metric):
    """Score the attacked image's map by a metric of the clean image's. The score says what an attack leaves of an
    explanation's faithfulness. The metric may be `insertion`, `deletion`, `preservation`, `relevance`, `l1_norm`,
    `aopc` or `infidelity`, among others.

    The metric sees the attacked image, or the clean one behind the attacked map. The class is that of the clean image.
    Without a budget, the scores are the metric's own. `adv_insertion` is metric=(insertion) with image=clean. For table
    1 of Lim et al. (CVPR 2021), take metric=(relevance:lim2021), the attack pgd:lim2021, and budgets 4/255, 6/255,
    17/255 and 57/255. Their code scores the clean image, but only on the attacked one do scores fall as in that table.
    """

    name = "under_attack"
    help = "faithfulness of the attacked map, by a metric of clean maps"
    paper = bench.papers.LIM2021
    examples = ("", "metric=(deletion:steps=4),image=clean", "metric=(l1_norm)", "metric=(relevance:steps=4)")
    metric: bench.Metric = bench.param(Insertion(), "a metric of the clean image's map")
    image: Literal["attacked", "clean"] = bench.param("attacked", "image that the metric sees")

    @property
    def better(self) -> Literal["higher", "lower"]:
        return self.metric.better

    @property
    def range(self) -> tuple[float | None, float | None]:
        return self.metric.range

    @property
    def grain(self) -> float | None:
        return self.metric.grain

    def find_problem(self) -> str | None:
        names = _evidence(self.metric)
        if names & set(MAPS) and names <= TAKEN:
            return None
        return f"metric {self.metric} does not score one map of an image; use one such as insertion or l1_norm"

    def refuse(self, case: bench.Case) -> str | None:
        return self.metric.refuse(case)

    def __call__(
        self,
        network: nn.Module,
        images: Tensor,
        attacked_images: Tensor,
        targets: Tensor,
        attacked_attributions: Tensor,
        attacked_maps: Tensor,
        attacked_masks: Tensor,
        seed: int,
        test_data: bench.Data,
    ) -> Any:
        given = {
            "network": network,
            "images": attacked_images if self.image == "attacked" else images,
            "targets": targets,
            "clean_attributions": attacked_attributions,
            "clean_maps": attacked_maps,
            "clean_masks": attacked_masks,
            "seed": seed,
            "test_data": test_data,
        }
        return self.metric(**{name: given[name] for name in _evidence(self.metric)})


def _evidence(metric: bench.Metric) -> set[str]:
    return set(inspect.signature(type(metric).__call__).parameters) - {"self"}
