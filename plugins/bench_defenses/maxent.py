"""Keep predictions from being too confident."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

import bench


@dataclass(frozen=True)
class MaxEnt(bench.Defense):
    """Minimise the cross-entropy minus a share of the prediction's entropy (Pereyra et al., ICLR Workshop 2017; in Joo
    et al., 2023, fig. 1). Gradients and Hessians shrink, but no direction is aligned. The papers give no weight."""

    name = "maxent"
    paper = bench.Paper(
        "Regularizing Neural Networks by Penalizing Confident Output Distributions",
        "Gabriel Pereyra and George Tucker and Jan Chorowski and Lukasz Kaiser and Geoffrey Hinton",
        "ICLR Workshop",
        2017,
        "https://arxiv.org/abs/1701.06548",
    )
    weight: float = bench.param(0.1, "weight of the entropy, in nats", low=0)

    def train(self, fit: bench.Fit) -> nn.Module:
        return fit.minimise(fit.fresh(), self.loss)

    def loss(self, network: nn.Module, batch: bench.Batch) -> Tensor:
        logits = network(batch.images)
        logs = logits.log_softmax(1)
        return F.cross_entropy(logits, batch.labels) + self.weight * (logs.exp() * logs).sum(1).mean()
