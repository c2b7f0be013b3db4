"""Load anybody's labelled images from Parquet files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import bench
from bench.images import Frame
from bench_datasets.masks import Values
from bench_datasets.splits import assemble, reframe
from bench_datasets.tables import one_of, parquet_files, rows_of, table


@dataclass(frozen=True)
class Parquet(bench.Dataset):
    """Load labelled images from Parquet files in the layout of the library `datasets`. One column holds the images, one
    the labels, whose feature names the classes, and perhaps one the object masks.

    Splits are read from names as that library reads them: data/SPLIT-00000-of-00001.parquet, or SPLIT/*.parquet, or
    files such as SPLIT-*.parquet and toy-SPLIT.parquet, where SPLIT is train, validation or test, or another word for
    it. Where no name has a split, all is a test split. A note below each table tells which files are left out. Images
    are decoded on access, turned upright, converted to RGB (transparent ones over white), and brought to one size: crop
    "center" scales the shorter side to `resize`, "none" both sides, and the middle is cut. Where no parameter says how,
    a model that is named after trained weights decides.

    The values of masks are ids (0, black and transparent are background, 255 of 8 bits, 65535 of 16 and white are void,
    any other is the object) or shades (the object is brighter than half of the maximum). "auto" takes those of a JPEG
    and fractions for shades, others for ids, and 255 for the object where it is the only id.
    """

    name = "parquet"
    version = 2
    examples = ()
    path: Path = bench.param(help="a Parquet file, or a folder of them")
    size: int = bench.param(0, "height and width, in pixels; 0 for images that all have one size", low=0)
    resize: int = bench.param(0, "side before the middle is cut, in pixels; 0 for the size itself", low=0)
    crop: Literal["center", "none"] = bench.param("center", "side to scale: the shorter one (center), or both (none)")
    interpolation: Literal["bilinear", "bicubic"] = bench.param("bilinear", "how images are scaled")
    image: str = bench.param("image", "column of the images")
    label: str = bench.param("label", 'column of the labels; "" for none')
    mask: str = bench.param("mask", "column of the object masks, where there is one")
    mask_values: Values = bench.param("auto", "what the values of masks mean, as told above")
    classes: int = bench.param(0, "number of classes, where the labels are plain numbers", low=0)
    validation: float = bench.param(
        0.1, "share of the training images to hold out where there is no validation split", low=0, high=0.9
    )
    damaged: Literal["stop", "skip"] = bench.param(
        "stop", "what to do about images that do not decode: stop, or check all first and skip them"
    )

    @property
    def provides(self) -> frozenset[str]:
        files = next(iter(parquet_files(self.path)[0].values()))
        masks = {"object_masks"} if self.mask in table(files).columns else set()
        return frozenset(({"labels"} if self.label else set()) | masks)

    @property
    def frame(self) -> Frame:
        return Frame(self.size, self.resize, self.crop, self.interpolation)

    def framed(self, frame: Frame) -> bench.Dataset:
        return reframe(self, frame)

    def find_problem(self) -> str | None:
        return self.frame.find_problem()

    def load(self, split: str) -> bench.Data:
        splits, names = {}, {}
        found, note = parquet_files(self.path)
        for name, files in found.items():
            about = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
            # Most sets have no object masks, so the default column may be absent; a name that the user gives may not.
            absent = self.mask == type(self).mask and self.mask not in table(files).columns
            splits[name], names[name] = rows_of(
                table(files), about, self.image, self.label, "" if absent else self.mask, self.classes
            )
        # The name of a single file decides its split, and its checksum does not cover the name.
        fingerprint = "+".join(sorted(splits))
        classes = one_of(names, str(self.path))
        return assemble(
            splits, split, classes, self.frame, self.validation, self.damaged, fingerprint, self.mask_values, note
        )
