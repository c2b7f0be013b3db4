"""What schedules promise."""

from __future__ import annotations

import copy
import dataclasses
import tempfile

import torch
from torch import Tensor, nn

from bench.components import Schedule
from bench.engine import Batch, Catalog
from bench.testing.contracts.shared import ensure
from bench.testing.fixtures import tiny_fit


def trains_a_network(component: Schedule, catalog: Catalog) -> None:
    increases = list(component.decay) == sorted(set(component.decay))
    ensure(increases, f"decay is {component.decay}; give epochs in increasing order")
    with tempfile.TemporaryDirectory() as folder:
        fit = tiny_fit(folder, dataclasses.replace(component, limit=12, epochs=1))
        start = copy.deepcopy(fit.fresh().state_dict())
        trained = fit.minimise(fit.fresh(), _cross_entropy)
        moved = any(not torch.equal(start[n], t) for n, t in trained.state_dict().items())
    ensure(moved, "training with it changes no weight")


def _cross_entropy(network: nn.Module, batch: Batch) -> Tensor:
    assert batch.labels is not None
    return nn.functional.cross_entropy(network(batch.images), batch.labels)
