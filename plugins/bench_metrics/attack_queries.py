"""Count the queries of an attack."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import bench


@dataclass(frozen=True)
class AttackQueries(bench.Metric):
    """Count the queries of an attack without gradients, per attacked image. A query is an image for whose map and
    logits the attack asks.
    """

    name = "attack_queries"
    better = "lower"
    range = (0.0, None)
    grain = 1.0
    help = "images that the attack asks the network and the explainer about"

    def __call__(self, attack_reports: dict[str, Tensor]) -> Tensor | bench.Undefined:
        if "queries" not in attack_reports:
            return bench.Undefined("the attack counts no queries; take evolution or genetic")
        return attack_reports["queries"].double()
