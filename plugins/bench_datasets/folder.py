"""Load anybody's labelled images from folders."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

import bench
from bench.images import Frame
from bench_datasets.splits import Files, assemble, contents, names_of
from bench_datasets.tables import SPLITS


@dataclass(frozen=True)
class Folder(bench.Dataset):
    """Load labelled images from files PATH/SPLIT/CLASS/FILE. Without folders named train, validation or test,
    PATH/CLASS/FILE is a test split.

    The classes are the sorted folders of all splits together. Images are decoded on access, turned upright, converted
    to RGB (transparent ones over white), and brought to one size: crop "center" scales the shorter side to `resize` and
    cuts the middle, "none" scales both sides.
    """

    name = "folder"
    examples = ()
    path: Path = bench.param(help="folder of the images")
    size: int = bench.param(0, "height and width, in pixels; 0 for images that all have one size", low=0)
    resize: int = bench.param(0, "shorter side before the crop, in pixels; 0 for the size itself", low=0)
    crop: Literal["center", "none"] = bench.param("center", "whether to cut the middle square, or to scale both sides")
    validation: float = bench.param(
        0.1, "share of the training images to hold out where there is no validation split", low=0, high=0.9
    )
    damaged: Literal["stop", "skip"] = bench.param(
        "stop", "what to do about images that do not decode: stop, or check all first and skip them"
    )

    def find_problem(self) -> str | None:
        return Frame(self.size, self.resize, self.crop).find_problem()

    def load(self, split: str) -> bench.Data:
        splits, classes = image_folders(self.path, bench.checksum(self.path) if self.path.is_dir() else "")
        return assemble(splits, split, classes, Frame(self.size, self.resize, self.crop), self.validation, self.damaged)


@functools.cache
def image_folders(path: Path, content: str) -> tuple[dict[str, Files], tuple[str, ...]]:
    """Find the splits below a folder, and the classes of them all.

    `content` is a checksum of the folder, so a change of the folder is noticed.

    Raises EnvironmentProblem where there are no images.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    if not path.is_dir():
        raise bench.EnvironmentProblem(f"{path} is not a folder; check the path")
    named = {SPLITS[p.name.lower()]: p for p in sorted(path.iterdir()) if p.is_dir() and p.name.lower() in SPLITS}
    places = named or {"test": path}
    classes = tuple(
        sorted(
            {p.name for place in places.values() for p in place.iterdir() if p.is_dir() and not p.name.startswith(".")}
        )
    )
    splits = {}
    for split, place in places.items():
        mine = {name: classes.index(name) for name in classes if (place / name).is_dir()}
        files_and_labels = make_dataset(str(place), mine, IMG_EXTENSIONS, allow_empty=True) if mine else []
        files, labels = (
            [Path(file) for file, _ in files_and_labels],
            torch.tensor([label for _, label in files_and_labels], dtype=torch.int64),
        )
        splits[split] = Files(len(files), labels, contents(files), None, names_of(files))
    if not any(files.count for files in splits.values()):
        raise bench.EnvironmentProblem(f"{path} contains no images of the form [SPLIT/]CLASS/FILE")
    return splits, classes
