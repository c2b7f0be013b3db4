"""Anybody's labelled images in Parquet files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import bench
from bench.images import Frame
from bench_datasets.splits import assembled
from bench_datasets.tables import one_of, parquet_files, rows_of, table


@dataclass(frozen=True)
class Parquet(bench.Dataset):
    """Labelled images from Parquet files in the layout of Hugging Face `datasets`: a column of images, one of labels
    whose feature names the classes, and perhaps one of object masks.

    A folder holds SPLIT-*.parquet or SPLIT/*.parquet; a single file is the split that its name begins with, else test.
    Images are decoded when they are asked for, turned upright, made RGB (transparent ones over white), and brought to
    one size: crop "center" scales the shorter side to `resize` and cuts the middle, "none" scales both sides.
    """

    name = "parquet"
    examples = ()
    path: Path = bench.param(help="a Parquet file, or a folder of them")
    size: int = bench.param(0, "height and width in pixels; 0: as they are, all the same", low=0)
    resize: int = bench.param(0, "shorter side before the crop, in pixels; 0: the size", low=0)
    crop: Literal["center", "none"] = bench.param("center", "cut the middle square, or scale both sides")
    image: str = bench.param("image", "column of the images")
    label: str = bench.param("label", 'column of the labels; "" for none')
    mask: str = bench.param("mask", "column of the object masks, where there is one")
    classes: int = bench.param(0, "number of classes, where the labels are plain numbers", low=0)
    validation: float = bench.param(
        0.1, "share of the training images held out, where no validation split is there", low=0, high=0.9
    )
    damaged: Literal["stop", "skip"] = bench.param(
        "stop", "at an image that does not decode: stop, or look at all of them first and leave such ones out"
    )

    @property
    def provides(self) -> frozenset[str]:
        files = next(iter(parquet_files(self.path).values()))
        masks = {"object_masks"} if self.mask in table(files).features else set()
        return frozenset(({"labels"} if self.label else set()) | masks)

    def find_problem(self) -> str | None:
        return Frame(self.size, self.resize, self.crop).find_problem()

    def load(self, split: str) -> bench.Data:
        splits, names = {}, {}
        for name, files in parquet_files(self.path).items():
            about = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
            # An object mask is a bonus that most sets lack: only a name of the user's own must be there.
            absent = self.mask == type(self).mask and self.mask not in table(files).features
            splits[name], names[name] = rows_of(
                table(files), about, self.image, self.label, "" if absent else self.mask, self.classes
            )
        frame = Frame(self.size, self.resize, self.crop)
        # Which split a file is follows from its own name too, which the checksum of a single path does not see.
        fingerprint = "+".join(sorted(splits))
        return assembled(
            splits, split, one_of(names, str(self.path)), frame, self.validation, self.damaged, fingerprint
        )
