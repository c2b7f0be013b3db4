"""Decode image files on access, and bring them to one size by a declared rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

import bench
from bench.errors import quote_error
from bench.images import UNREADABLE, Frame, open_upright


def gaze_map(content: bytes, frame: Frame) -> Tensor:
    """Read a map of where people looked, (H, W) in [0, 1], from the content of a grey picture."""
    image = open_upright(content).convert("L")
    return torch.from_numpy(np.asarray(frame.place(image)).copy()).float() / 255


class Decoded:
    """Rows (n, 3, H, W) or (n, H, W) of a set, decoded on access: `decoded[rows]`, in as many threads as torch uses.

    `read` returns the contents of some files, `decode` turns one into a tensor of the shape, and `name` names one in
    messages.
    """

    def __init__(
        self,
        read: Callable[[Sequence[int]], list[bytes]],
        decode: Callable[[bytes], Tensor],
        rows: Tensor,
        shape: tuple[int, ...],
        name: Callable[[int], str],
    ) -> None:
        self.read, self.decode, self.rows, self.name = read, decode, rows, name
        self.shape = (len(rows), *shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Tensor) -> Tensor:
        places = self.rows[rows].tolist()
        values = torch.empty(len(places), *self.shape[1:])
        damaged: list[tuple[int, BaseException]] = []
        try:
            contents = self.read(places)
        except OSError as error:
            file, reason = error.filename or self.name(places[0]), error.strerror or quote_error(error)
            raise bench.EnvironmentProblem(
                f"{file} cannot be read ({reason}); fix it, or skip all such images with damaged=skip"
            ) from None
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            decoded = threads.map(self._decode_into, values, contents)
            for row, failure in zip(places, decoded, strict=True):
                if isinstance(failure, torch.Size):
                    sides = [" x ".join(map(str, shape[-2:])) for shape in (failure, values.shape)]
                    raise bench.EnvironmentProblem(
                        f"{self.name(row)} has {sides[0]} pixels, but the first image has {sides[1]}; give a size"
                    )
                if failure:
                    damaged.append((row, failure))
        if damaged:
            row, cause = damaged[0]
            more = f", and {len(damaged) - 1} more of the {len(places)} requested" if len(damaged) > 1 else ""
            raise bench.EnvironmentProblem(
                f"{self.name(row)} cannot be decoded ({quote_error(cause)}){more}; fix it, or skip all such "
                "images with damaged=skip"
            )
        return values

    def _decode_into(self, place: Tensor, content: bytes) -> BaseException | torch.Size | None:
        """Decode a file into its place in a batch. Returns the error, or the image's shape where it does not fit."""
        try:
            value = self.decode(content)
        except UNREADABLE as error:
            return error
        if value.shape != place.shape:
            return value.shape
        np.copyto(place.numpy(), value.numpy())
        return None


def readable(
    columns: Sequence[tuple[Callable[[Sequence[int]], list[bytes]], Callable[[bytes], Any]]], count: int
) -> list[int]:
    """Find the rows whose images and masks decode; this reads all of them. A column is how to read and to decode it."""
    rows = []
    for row in range(count):
        try:
            for read, decode in columns:
                decode(read([row])[0])
        except UNREADABLE:
            continue
        rows.append(row)
    return rows
