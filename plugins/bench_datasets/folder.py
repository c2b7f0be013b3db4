"""Load anybody's labelled images from folders."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

import bench
from bench.images import Frame
from bench_datasets.names import describe_left_out, is_hidden, list_files, splits_in
from bench_datasets.splits import Files, assemble, contents, names_of, reframe


@dataclass(frozen=True)
class Folder(bench.Dataset):
    """Load labelled images from files PATH/SPLIT/CLASS/FILE, or PATH/CLASS/FILE.

    Without folders of splits, all images are a test split, or the share `test` of them is, and the others train: as
    many of each class, chosen by draws of seed 0 for the rows in the order of their names. Validation images are
    chosen from the training images by the same rule.

    A folder is a split if its name has a keyword of Hugging Face `datasets` (train, training; validation, valid, val,
    dev; test, testing, eval, evaluation), set apart as in toy-train or train2017, and if it contains folders. The
    classes are the sorted folders of all splits together. Hidden files and folders do not count; a note below each
    table tells what else is left out. Images are decoded on access, turned upright, converted to RGB (transparent ones
    over white), and brought to one size: crop "center" scales the shorter side to `resize`, "none" both sides, and the
    middle is cut. Where no parameter says how, a model that is named after trained weights decides.
    """

    name = "folder"
    version = 2
    examples = ()
    path: Path = bench.param(help="folder of the images")
    size: int = bench.param(0, "height and width, in pixels; 0 for images that all have one size", low=0)
    resize: int = bench.param(0, "side before the middle is cut, in pixels; 0 for the size itself", low=0)
    crop: Literal["center", "none"] = bench.param("center", "side to scale: the shorter one (center), or both (none)")
    interpolation: Literal["bilinear", "bicubic"] = bench.param("bilinear", "how images are scaled")
    validation: float = bench.param(
        0.1, "share of the training images to hold out where there is no validation split", low=0, high=0.9
    )
    damaged: Literal["stop", "skip"] = bench.param(
        "stop", "what to do about images that do not decode: stop, or check all first and skip them"
    )
    test: float = bench.param(
        0.0, "share of PATH/CLASS/FILE to test on; 0 for all, and no training", low=0, high=0.9, added=True
    )

    @classmethod
    def suggest(cls, text: str) -> str | None:
        return f"{cls.name}:path={text}" if Path(text).is_dir() else None

    @property
    def frame(self) -> Frame:
        return Frame(self.size, self.resize, self.crop, self.interpolation)

    def framed(self, frame: Frame) -> bench.Dataset:
        return reframe(self, frame)

    def find_problem(self) -> str | None:
        return self.frame.find_problem()

    def load(self, split: str) -> bench.Data:
        content = bench.checksum(self.path) if self.path.is_dir() else ""
        splits, classes, note = image_folders(self.path, content, self.test)
        return assemble(splits, split, classes, self.frame, self.validation, self.damaged, note=note)


@functools.cache
def image_folders(path: Path, content: str, test: float = 0) -> tuple[dict[str, Files], tuple[str, ...], str]:
    """Find the splits below a folder, the classes of them all, and a note on what is left out.

    `content` is a checksum of the folder, so a change of the folder is noticed. `test` is the share to test on where
    there are no folders of splits; 0 means all.

    Raises EnvironmentProblem where there are no images, or where it is unclear what are splits and what classes.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS

    if not path.is_dir():
        raise bench.EnvironmentProblem(f"{path} is not a folder; check the path")
    files = list(list_files(path, IMG_EXTENSIONS))
    folders = {file: file.relative_to(path).parts[:-1] for file in files}
    depths = {file: _depth_of_split(names) for file, names in folders.items()}
    has_splits = any(depth for depth in depths.values())
    if has_splits and test:
        raise bench.BadValue(f"dataset folder: test is {test}, but {path} has folders of splits; leave it out")
    if not has_splits:
        _check_classes(path, {names[0] for names in folders.values() if names})
        depths = {file: 0 if names else None for file, names in folders.items()}
    placed: dict[tuple[str, str], dict[Path, Path]] = {}  # by split and class, the file that a link leads to first
    beside, repeated, parents = [], [], set()
    for file in files:
        depth, names = depths[file], folders[file]
        if depth is None:
            beside.append(file)
            continue
        parents.add(path.joinpath(*names[:depth]))
        split = splits_in(names[depth - 1])[0] if depth else "test"
        first = placed.setdefault((split, names[depth]), {}).setdefault(file.resolve(), file)
        if first != file:
            repeated.append(file)
    if not placed:
        raise bench.EnvironmentProblem(f"{path} contains no images of the form [SPLIT/]CLASS/FILE")
    found = {p.name for place in parents for p in place.iterdir() if p.is_dir() and not is_hidden(p)}
    classes = tuple(sorted(found))
    splits = {}
    for split in sorted({split for split, _ in placed}):
        rows = [
            (file, label)
            for label, name in enumerate(classes)
            for file in sorted(placed.get((split, name), {}).values(), key=lambda file: (str(file.parent), file.name))
        ]
        mine = [file for file, _ in rows]
        labels = torch.tensor([label for _, label in rows], dtype=torch.int64)
        splits[split] = Files(len(mine), labels, contents(mine), None, names_of(mine))
    if test:
        whole = splits["test"]
        tested = torch.zeros(whole.count, dtype=torch.bool)
        tested[bench.Data(whole.labels, whole.labels, classes).choice(round(test * whole.count))] = True
        splits = {"test": whole.take(_places(tested)), "train": whole.take(_places(~tested))}
    left_out = (
        describe_left_out(beside, path, "not in a folder of a class of a split"),
        describe_left_out(repeated, path, "the same files again, by links"),
    )
    return splits, classes, "; ".join(filter(None, left_out))


def _places(chosen: torch.Tensor) -> list[int]:
    return chosen.nonzero()[:, 0].tolist()


def _depth_of_split(names: tuple[str, ...]) -> int | None:
    """The number of folders down to the one that is a split and contains classes, or None."""
    return next((i + 1 for i, name in enumerate(names[:-1]) if len(splits_in(name)) == 1), None)


def _check_classes(path: Path, names: set[str]) -> None:
    """Raise EnvironmentProblem for folders of images that are more likely splits than classes."""
    splits = {name for name in names if splits_in(name)}
    if splits and (len(splits) > 1 or splits == names):
        raise bench.EnvironmentProblem(
            f"{path}: {' and '.join(sorted(splits))} contain images themselves; put these into folders of classes, "
            "SPLIT/CLASS/FILE, or rename them where they are classes"
        )
