"""Measures a network and images in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bench.api.memory import MemoryDefense, hold
from bench.api.results import Results
from bench.api.running import Budget, Several, as_lists, compute, tell
from bench.boards import quick_protocol
from bench.components import Attack, Explainer, Metric
from bench.engine import choose_device, dependencies, installed, list_cells, open_store, select


def evaluate(
    network: nn.Module,
    images: Tensor,
    labels: Tensor | Sequence[int] | None = None,
    explainers: Several[Explainer] | None = None,
    attacks: Several[Attack] | None = None,
    metrics: Several[Metric] | None = None,
    eps: Budget | Sequence[Budget] | None = None,
    *,
    norm: str | Sequence[str] | None = None,
    surrogates: Several[Explainer] | None = None,
    target: str | Sequence[str] | None = None,
    references: Tensor | None = None,
    seed: int | Sequence[int] | None = None,
    store: str | Path | None = None,
    device: str = "auto",
) -> Results:
    """Attack the maps of any network on images in memory, and measure what is left of them.

    images: (N, C, H, W), floats in [0, 1]; the network maps them to logits (N, K) and normalises inside, as one in
    `bench.Normalised` does. labels: (N,); without them, the network's predictions are explained all the same, and
    metrics that compare with labels are refused in `troubles`. references: (R, C, H, W), other images, for attacks that
    aim at the map of one and explainers that average over some. Options that are left out come from quick.toml.

    The checks of an attack cost two to five times as much as the attack, on half of the images, but on at least 4 and
    at most 8. For a quick look on a CPU, take few steps and images: attacks="topk:steps=5" and images[:4].

    Everything is computed as by `bench run`, on a copy of the network in eval mode. Results are kept in `store` if it
    is given, and used again for the same network and images. Raises BadValue or BadComponent for what cannot be
    measured, and CellFailed where a cell failed, with the `Results` of the others as its `records`.
    """
    catalog, place = installed(), choose_device(device)
    dataset, model = hold(network, images, labels, references, place)
    if metrics is None:  # nothing is trained here
        known = {text: type(catalog.read("metric", text)) for text in quick_protocol().metrics}
        metrics = [text for text, metric in known.items() if "training" not in dependencies(metric.__call__)]
    given: dict[str, Any] = {
        "dataset": dataset, "model": model, "defense": MemoryDefense(), "samples": len(images),
        "explainer": explainers, "surrogate": surrogates, "attack": attacks, "eps": eps, "norm": norm,
        "target": target, "seed": seed, "metric": metrics,
    }  # fmt: skip
    selection = select(catalog, as_lists(given), reference=False)
    cells = list_cells(catalog, selection.cases, selection.metrics)
    if store is not None:
        return compute(cells, open_store(store, tell), place)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        return compute(cells, open_store(folder, tell), place)
