"""Train by cross-entropy alone: the reference of every table."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

import bench


@dataclass(frozen=True)
class CE(bench.Defense):
    """Minimise the cross-entropy and nothing else."""

    name = "ce"

    def train(self, fit: bench.Fit) -> nn.Module:
        return fit.minimise(fit.fresh(), cross_entropy)


def cross_entropy(network: nn.Module, batch: bench.Batch) -> Tensor:
    return F.cross_entropy(network(batch.images), batch.labels)
