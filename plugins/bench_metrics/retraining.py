"""Change training data while they are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import bench


class MaskedImages:
    """Images that show some pixels, `shown` (N, H, W), and `empty` in place of all others."""

    def __init__(self, images: Any, shown: Tensor, empty: Tensor) -> None:
        self.images, self.shown, self.empty = images, shown, empty
        self.shape = images.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.where(self.shown[rows][:, None], self.images[rows], self.empty)


class Rows:
    """Some rows of a column."""

    def __init__(self, column: Any, rows: Tensor) -> None:
        self.column, self.rows, self.shape = column, rows, (len(rows), *column.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.column[self.rows[rows]]


class Swapped:
    """A column whose rows at `out` are replaced by the rows `into` of another column."""

    def __init__(self, column: Any, out: Tensor, others: Any, into: Tensor) -> None:
        self.column, self.others, self.shape = column, others, column.shape
        self.other = torch.full((len(column),), -1)
        self.other[out] = into

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, rows: Tensor) -> Tensor:
        values, other = self.column[rows], self.other[rows]
        if (other >= 0).any():
            values = values.clone()
            values[other >= 0] = self.others[other[other >= 0]]
        return values


def _change(data: bench.Data, labels: Tensor | None, change: Callable[[str, Any], Any]) -> bench.Data:
    """Give data other labels, and change each column that it has."""
    columns = {name: getattr(data, name) for name in ("images", "object_masks", "gaze")}
    changed: dict[str, Any] = {name: change(name, column) for name, column in columns.items() if column is not None}
    return dataclasses.replace(data, labels=labels, **changed)


def restrict(data: bench.Data, schedule: bench.Schedule) -> bench.Data:
    """Restrict data to the rows that a schedule trains on. Its choice depends on the labels, so a change of labels
    would change the rows too."""
    if not schedule.limit:
        return data
    rows = schedule.used(data)
    return _change(data, None if data.labels is None else data.labels[rows], lambda name, column: Rows(column, rows))


def swap(data: bench.Data, out: Tensor, others: bench.Data, into: Tensor) -> bench.Data:
    """Replace some rows of data, in all columns."""
    assert data.labels is not None and others.labels is not None
    labels = data.labels.clone()
    labels[out] = others.labels[into]
    return _change(data, labels, lambda name, column: Swapped(column, out, getattr(others, name), into))


def compute_logits(network: nn.Module, data: bench.Data, rows: Tensor, device: torch.device) -> Tensor:
    """Compute the logits of some rows: (N, K)."""
    parts = []
    with torch.no_grad():
        for part in rows.split(256):
            images = data.images[part].to(device)
            parts.append(bench.chunked(network, images, seed=0, name="predictions", indices=part))
    return torch.cat(parts)
