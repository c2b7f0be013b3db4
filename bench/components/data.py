"""One split of a data set, as every component sees it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench import noise
from bench.errors import EnvironmentProblem


@dataclass(frozen=True)
class Data:
    """One split of a data set; empty where the set has no such split.

    `images[indices]` gives float images (n, C, H, W): a tensor, or anything with a `shape` that decodes on demand.
    `object_masks` and `gaze` are (N, H, W) in [0, 1]; a mask is 1 on the object, 0 off it, and 0.5 where it says
    neither. `fingerprint` stands for the content of all files of the set. `note` is printed below every table.
    `indices` are the rows' positions in the split, or None for the whole split.
    """

    images: Any
    labels: Tensor | None
    classes: tuple[str, ...]
    object_masks: Any = None
    gaze: Any = None
    fingerprint: str = ""
    note: str = ""
    indices: Tensor | None = None

    @property
    def rows(self) -> Tensor:
        """The rows' positions in the split."""
        return torch.arange(len(self)) if self.indices is None else self.indices

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image: (C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def choice(self, samples: int) -> Tensor:
        """Choose rows, in order: balanced over classes, always the same, and a subset of every larger choice.

        Raises EnvironmentProblem where the split has fewer rows.
        """
        count = len(self)
        if samples > count:
            raise EnvironmentProblem(f"{samples} samples requested, but the split has {count}; use {count} or fewer")
        with noise.rows(0, "samples", range(count)):
            order = noise.uniform(torch.empty(count, 1))[:, 0].argsort(stable=True)
        if self.labels is not None:
            turn = torch.empty(count, dtype=torch.int64)
            for label in self.labels.unique():
                mine = self.labels[order] == label
                turn[mine] = torch.arange(int(mine.sum()))
            order = order[turn.argsort(stable=True)]
        return order[:samples].sort().values

    def at(self, rows: Tensor) -> Data:
        """The rows at these positions, decoded."""
        images, labels, masks, gaze = (
            None if values is None else values[rows]
            for values in (self.images, self.labels, self.object_masks, self.gaze)
        )
        return dataclasses.replace(self, images=images, labels=labels, object_masks=masks, gaze=gaze, indices=rows)
