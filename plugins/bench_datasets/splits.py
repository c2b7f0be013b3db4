"""Turn splits of labelled image files into data: what to hold out, skip and decode."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

import bench
from bench.errors import quote_error
from bench.files import read_file
from bench.images import LARGEST, UNREADABLE, Frame, decode, pixels
from bench_datasets.images import Decoded, gaze_map, readable
from bench_datasets.masks import Values, object_mask

Read = Callable[[Sequence[int]], list[bytes]]
WHOLE = Frame(0, 0, "none")


@dataclass(frozen=True, eq=False)
class Files:
    """One split: its labels, functions that read images, masks and gaze maps by row, and a row's name in messages."""

    count: int
    labels: Tensor | None
    images: Read
    masks: Read | None
    name: Callable[[int], str]
    gaze: Read | None = None

    def take(self, rows: Sequence[int]) -> Files:
        """Some rows, in this order."""

        def part(read: Read | None) -> Read | None:
            return None if read is None else lambda places: read([rows[place] for place in places])

        return Files(
            len(rows),
            None if self.labels is None else self.labels[torch.tensor(rows, dtype=torch.int64)],
            lambda places: self.images([rows[place] for place in places]),
            part(self.masks),
            lambda place: self.name(rows[place]),
            part(self.gaze),
        )

    @functools.cache  # noqa: B019 (a process keeps the files of its sets anyway)
    def readable(self, mask_values: Values) -> list[int]:
        mask = functools.partial(object_mask, frame=WHOLE, values=mask_values)
        gaze = functools.partial(gaze_map, frame=WHOLE)
        columns = ((self.images, decode), (self.masks, mask), (self.gaze, gaze))
        return readable([(read, parse) for read, parse in columns if read], self.count)


def assemble(
    splits: Mapping[str, Files],
    split: str,
    classes: tuple[str, ...],
    frame: Frame,
    validation: float,
    damaged: Literal["stop", "skip"],
    fingerprint: str = "",
    mask_values: Values = "auto",
    note: str = "",
) -> bench.Data:
    """Make the data of one split; they are empty where the set has no such split.

    A set without a validation split gives a share of its training images, equally many of each class. This choice is
    fixed, and training never sees it. `note` joins that on damaged images.
    """
    held = split == "validation" and "validation" not in splits
    source = "train" if held else split
    first = next((files for files in splits.values() if files.count), None)
    if first is None:
        raise bench.EnvironmentProblem("the data set has no images at all; check its path")
    shape = (3, frame.size, frame.size) if frame.size else _shape(first, frame)
    files = splits.get(source) or Files(0, None if first.labels is None else first.labels[:0], _nothing, None, str)
    rows = (
        torch.tensor(files.readable(mask_values), dtype=torch.int64)
        if damaged == "skip" and files.count
        else torch.arange(files.count)
    )
    damage = f"{files.count - len(rows)} of {files.count} images are damaged and skipped" if damaged == "skip" else ""

    def data(rows: Tensor) -> bench.Data:
        def column(read: Read | None, parse: Callable[..., Tensor], what: str) -> Decoded | None:
            if read is None:
                return None
            decode_in_frame = functools.partial(parse, frame=frame)
            return Decoded(read, decode_in_frame, rows, shape[1:], lambda row: f"the {what} of {files.name(row)}")

        return bench.Data(
            Decoded(files.images, functools.partial(pixels, frame=frame), rows, shape, files.name),
            None if files.labels is None else files.labels[rows],
            classes,
            object_masks=column(files.masks, functools.partial(object_mask, values=mask_values), "mask"),
            gaze=column(files.gaze, gaze_map, "gaze map"),
            fingerprint=fingerprint,
            note="; ".join(filter(None, (note, damage))),
        )

    whole = data(rows)
    if source == "train" and "validation" not in splits and len(rows):
        validating = torch.zeros(len(rows), dtype=torch.bool)
        validating[whole.choice(round(validation * len(rows)))] = True
        return data(rows[validating if held else ~validating])
    return whole


def _shape(files: Files, frame: Frame) -> tuple[int, ...]:
    """Return the shape of the first image that decodes."""
    causes = []
    for row in range(files.count):
        try:
            return tuple(pixels(files.images([row])[0], frame).shape)
        except UNREADABLE as error:
            causes.append(quote_error(error))
    raise bench.EnvironmentProblem(
        f"{files.name(0)} and all that follow cannot be decoded ({causes[0]}): are these images?"
    )


def reframe(dataset: bench.Dataset, frame: Frame) -> bench.Dataset:
    """Replace a set's parameters of framing by those of a frame, unless one of them has been given."""
    wanted = dataclasses.asdict(frame)
    given = {field.name for field in dataclasses.fields(dataset) if getattr(dataset, field.name) != field.default}
    return dataset if given & set(wanted) else dataclasses.replace(dataset, **wanted)


def contents(files: Sequence[Path]) -> Read:
    """Make a function that reads some of the files."""

    def read(rows: Sequence[int]) -> list[bytes]:
        return [read_file(files[row], LARGEST) for row in rows]

    return read


def names_of(files: Sequence[Path]) -> Callable[[int], str]:
    """A function that names a row by its file."""
    return lambda row: str(files[row])


def _nothing(rows: Sequence[int]) -> list[bytes]:
    return []
