"""Training data that are changed as they are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import bench


class Seen:
    """Images of which some pixels, `shown` (N, H, W), are there, and `empty` stands for all others."""

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
    """Rows of a column, of which those at `out` are others: rows `into` of another column."""

    def __init__(self, column: Any, out: Tensor, others: Any, into: Tensor) -> None:
        self.column, self.others, self.shape = column, others, column.shape
        self.other = torch.full((len(column),), -1)
        self.other[out] = into

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, rows: Tensor) -> Tensor:
        found, other = self.column[rows], self.other[rows]
        if (other >= 0).any():
            found = found.clone()
            found[other >= 0] = self.others[other[other >= 0]]
        return found


def _change(data: bench.Data, labels: Tensor | None, change: Callable[[str, Any], Any]) -> bench.Data:
    """Data with other labels, and a change of each column that it has."""
    columns = {name: getattr(data, name) for name in ("images", "object_masks", "gaze")}
    changed: dict[str, Any] = {name: change(name, column) for name, column in columns.items() if column is not None}
    return dataclasses.replace(data, labels=labels, **changed)


def used(data: bench.Data, schedule: bench.Schedule) -> bench.Data:
    """The data that a schedule trains on, and no others: which rows it takes of all depends on their labels, and would
    not be the same after a change of these."""
    if not schedule.limit:
        return data
    rows = schedule.used(data)
    return _change(data, None if data.labels is None else data.labels[rows], lambda name, column: Rows(column, rows))


def swapped(data: bench.Data, out: Tensor, others: bench.Data, into: Tensor) -> bench.Data:
    """Data of which some rows are others, with all that belongs to them."""
    assert data.labels is not None and others.labels is not None
    labels = data.labels.clone()
    labels[out] = others.labels[into]
    return _change(data, labels, lambda name, column: Swapped(column, out, getattr(others, name), into))


def predictions(network: nn.Module, data: bench.Data, rows: Tensor, device: torch.device) -> Tensor:
    """The class that a network gives to some rows: (N,)."""
    found = []
    with torch.no_grad():
        for part in rows.split(256):
            images = data.images[part].to(device)
            found.append(bench.chunked(network, images, seed=0, name="predictions", indices=part).argmax(1))
    return torch.cat(found)
