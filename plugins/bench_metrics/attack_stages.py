"""Show what each member of an ensemble adds, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

import bench


@dataclass(frozen=True)
class Reports(bench.Metric):
    """Numbers that an attack reports of each image under names that begin alike, a level for each."""

    begins: ClassVar[str] = ""
    better = "lower"

    def __call__(self, attack_reports: dict[str, Tensor]) -> bench.Levels | bench.Undefined:
        found = {n.removeprefix(self.begins): v for n, v in attack_reports.items() if n.startswith(self.begins)}
        if not found:
            return bench.Undefined("the attack is no ensemble; take attack standard")
        return bench.Levels(torch.stack(list(found.values()), 1).double(), tuple(found))


@dataclass(frozen=True)
class AttackStages(Reports):
    """Take the score that is left after each member of an ensemble such as `standard`. They come in the order in which
    they run.

    What a member added is the difference from the level before. Where maps draw noise, scores are those of the attack's
    own draws.
    """

    name = "attack_stages"
    help = "score that is left after each member of the attack"
    begins = "left after "


@dataclass(frozen=True)
class AttackPasses(Reports):
    """Count the passes of each member of an ensemble of attacks such as `standard`. Passes forward and backward count,
    for each image that took part in them. An image with nothing left to lose leaves the search, and costs nothing more.
    """

    name = "attack_passes"
    range = (0.0, None)
    help = "forward and backward passes of each member of the attack; the mean over members"
    begins = "passes of "
