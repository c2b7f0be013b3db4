"""Load named sets from the data folder: as Parquet files, or as folders of classes."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import bench
from bench.images import Frame
from bench_datasets.folder import image_folders
from bench_datasets.splits import Files, assemble, reframe
from bench_datasets.tables import one_of, parquet_files, rows_of, table

Splits = tuple[dict[str, Files], tuple[str, ...], str, str]  # classes, fingerprint and a note follow


@dataclass(frozen=True)
class Photographs(bench.Dataset):
    """Photographs of a named set, decoded on access and brought to one size."""

    version: ClassVar[int] = 2
    examples = ()
    howto: ClassVar[str]
    size: int = bench.param(224, "height and width, in pixels", low=1)
    resize: int = bench.param(256, "side before the middle is cut, in pixels; 0 for the size itself", low=0)
    crop: Literal["center", "none"] = bench.param("center", "side to scale: the shorter one (center), or both (none)")
    interpolation: Literal["bilinear", "bicubic"] = bench.param("bilinear", "how images are scaled")
    validation: float = bench.param(
        0.1, "share of the training images to hold out where there is no validation split", low=0, high=0.9
    )
    damaged: Literal["stop", "skip"] = bench.param(
        "stop", "what to do about images that do not decode: stop, or check all first and skip them"
    )

    @property
    def frame(self) -> Frame:
        return Frame(self.size, self.resize, self.crop, self.interpolation)

    def framed(self, frame: Frame) -> bench.Dataset:
        return reframe(self, frame)

    def find_problem(self) -> str | None:
        return self.frame.find_problem()

    @abstractmethod
    def splits(self) -> Splits:
        """Find the splits, the classes, the fingerprint of the files, and a note on what is left out."""

    def load(self, split: str) -> bench.Data:
        splits, classes, fingerprint, note = self.splits()
        return assemble(splits, split, classes, self.frame, self.validation, self.damaged, fingerprint, note=note)


def place_of(name: str, howto: str, folder: str = "") -> Path:
    """Find the folder of a set below the data folder; it has the set's name unless `folder` is given.

    Raises EnvironmentProblem, which says how to fill the folder, where it is missing.
    """
    data, folder = bench.data_dir(), folder or name
    place = data / folder if data else None
    if place is None or not place.is_dir():
        looked = f"{place} does not exist" if place else "no data folder is set"
        raise bench.EnvironmentProblem(
            f"dataset {name}: {looked}; put {howto} into DATA/{folder} and name DATA with --data-dir or BENCH_DATA_DIR"
        )
    return place


def splits_of(name: str, howto: str, classes: int, tested: str = "test") -> Splits:
    """Find the splits of a set, its classes, the fingerprint of its files, and a note on what is left out.

    Reads Parquet files, SPLIT-*.parquet with columns image and label, where there are any, else SPLIT/CLASS/FILE.
    `tested` is the split to test on. Raises EnvironmentProblem where the set is missing, or has another number of
    classes.
    """
    place = place_of(name, howto)
    if any(place.rglob("*.parquet")):
        files, note = parquet_files(place)
        splits, names = {}, {}
        for split, mine in files.items():
            splits[split], names[split] = rows_of(table(mine), str(mine[0]), "image", "label", "", 0)
        found = one_of(names, str(place))
        sums = "".join(bench.checksum(file) for mine in files.values() for file in mine)
    else:
        sums = bench.checksum(place)
        splits, found, note = image_folders(place, sums)
    if len(found) != classes:
        raise bench.EnvironmentProblem(
            f"dataset {name}: {place} contains {len(found)} classes, but the set has {classes}; put {howto} there"
        )
    if tested != "test" and "test" not in splits and tested in splits:
        splits = {"test" if split == tested else split: mine for split, mine in splits.items()}
    return splits, found, hashlib.sha256(sums.encode()).hexdigest()[:16], note
