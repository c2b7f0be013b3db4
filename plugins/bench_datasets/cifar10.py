"""CIFAR-10."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import bench
from bench.errors import quote_error
from bench.images import UNREADABLE, Frame, decode
from bench_datasets.folder import image_folders
from bench_datasets.jpegs import write_jpeg
from bench_datasets.names import list_files
from bench_datasets.prints import fingerprint_of
from bench_datasets.splits import Files, assemble
from bench_datasets.tables import Table, check_cache, classes_of, one_of, parquet_files, quiet, rows_of, table

HUB, REVISION = "uoft-cs/cifar10", "0b2714987fa478483af9968de7c934580d0bb9a2"
FOLDER = "cifar10"
JPEG = b"\xff\xd8"  # how its files begin
SIDE = 32  # of an image, in pixels


@dataclass(frozen=True)
class CIFAR10(bench.Dataset):
    """Load 60,000 images of 32 x 32 pixels in ten classes (Krizhevsky, 2009).

    They come from the folder cifar10 of the data folder: Parquet files train-* and test-* with columns image (or img)
    and label, or images SPLIT/CLASS/NUMBER.png, numbered in the official order. Without this folder, they come from the
    Hugging Face hub, uoft-cs/cifar10 at a pinned revision. Pixels, labels and their order are the set's identity, so
    that all copies of the official images are one set. Copies stored as JPEG lose what the official images have, and
    are another: networks trained on one lose accuracy on the other. A tenth of the training images, equally many of
    each class, is held out for validation.
    """

    name = "cifar10"
    version = 2
    paper = bench.Paper(
        "Learning Multiple Layers of Features from Tiny Images",
        "Alex Krizhevsky",
        "Technical report, University of Toronto",
        2009,
        "https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf",
    )
    examples = ()
    validation: float = bench.param(0.1, "share of the training images to hold out for validation", low=0, high=0.9)
    variant: Literal["official", "jpeg"] = bench.param(
        "official", "the official images, or what JPEG files of quality 75 keep of them"
    )

    def load(self, split: str) -> bench.Data:
        folder = bench.data_dir()
        local = folder / FOLDER if folder else None
        source = _local(local, bench.checksum(local)) if local and local.is_dir() else _hub(local)
        if self.variant == "official" and source.is_jpeg():
            raise bench.EnvironmentProblem(
                f"dataset {self}: the images in {source.place} are stored as JPEG; write cifar10:variant=jpeg, or put "
                f"the official ones there ({HUB} on the Hugging Face hub)"
            )
        if self.variant == "jpeg" and not source.is_jpeg():
            source = _as_jpeg(source)
        return assemble(
            source.splits,
            split,
            source.classes,
            Frame(0, 0, "none"),
            self.validation,
            "stop",
            source.fingerprint(),
            note=source.note,
        )


@dataclass(frozen=True, eq=False)
class _Source:
    """The splits of one copy, where it is, and the checksums of its files."""

    splits: dict[str, Files]
    classes: tuple[str, ...]
    place: str
    sums: tuple[str, ...]
    note: str = ""

    @functools.cache  # noqa: B019 (a process keeps the files of its sets anyway)
    def fingerprint(self) -> str:
        return fingerprint_of(self.splits, self.classes, self.sums)

    def is_jpeg(self) -> bool:
        return any(files.count and files.images([0])[0].startswith(JPEG) for files in self.splits.values())


@functools.cache
def _as_jpeg(source: _Source) -> _Source:
    """The JPEG copy, made from the official images."""

    def convert(files: Files) -> Files:
        def read(rows: Sequence[int]) -> list[bytes]:
            return [_write(content, files.name(row)) for row, content in zip(rows, files.images(rows), strict=True)]

        return dataclasses.replace(files, images=read)

    splits = {split: convert(files) for split, files in source.splits.items()}
    return dataclasses.replace(source, splits=splits, sums=(*source.sums, "written as JPEG"))


def _write(content: bytes, name: str) -> bytes:
    try:
        image = decode(content)
    except UNREADABLE as error:
        raise bench.EnvironmentProblem(f"{name} cannot be decoded ({quote_error(error)}); fix it") from None
    if image.size != (SIDE, SIDE):
        width, height = image.size
        raise bench.EnvironmentProblem(
            f"{name} has {width} x {height} pixels, but CIFAR-10 has {SIDE} x {SIDE}; fix it"
        )
    return write_jpeg(image)


@functools.cache
def _local(folder: Path, content: str) -> _Source:
    """The copy in a folder; `content` is a checksum of the folder, so a change of it is noticed."""
    if not any(list_files(folder, (".parquet",))):
        return _images(folder, content)
    found, note = parquet_files(folder)
    _require(folder, set(found), "files (SPLIT-*.parquet)")
    splits, names = {}, {}
    for split, files in found.items():
        image = "image" if "image" in table(files).columns else "img"
        splits[split], names[split] = rows_of(table(files), str(files[0]), image, "label", "", 0)
    sums = tuple(bench.checksum(file) for files in found.values() for file in files)
    return _Source(splits, one_of(names, str(folder)), str(folder), sums, note)


def _require(folder: Path, found: set[str], what: str) -> None:
    missing = {"train", "test"} - found
    if missing:
        raise bench.EnvironmentProblem(f"{folder} has no {' and no '.join(sorted(missing))} {what}")


def _images(folder: Path, content: str) -> _Source:
    """The copy in files SPLIT/CLASS/NUMBER.png."""
    found, classes, note = image_folders(folder, content)
    _require(folder, set(found), "images (SPLIT/CLASS/NUMBER.png)")
    return _Source({split: _sort(split, found[split]) for split in found}, classes, str(folder), (content,), note)


def _sort(split: str, files: Files) -> Files:
    """A split with its rows in the order of the numbers that are the names of its files."""
    stems = [Path(files.name(row)).stem for row in range(files.count)]
    numbers = [int(stem) if stem.isdecimal() else -1 for stem in stems]
    if -1 in numbers or len(set(numbers)) < len(numbers):
        wrong = f"{files.name(numbers.index(-1))} is not" if -1 in numbers else "a number repeats"
        raise bench.EnvironmentProblem(
            f"dataset cifar10: the {split} images must be named by their number in the official order, such as "
            f"{split}/frog/00000.png, but {wrong}; rename them, or use Parquet files"
        )
    return files.take(sorted(range(files.count), key=numbers.__getitem__))


@functools.cache
def _hub(local: Path | None) -> _Source:
    splits: dict[str, Files] = {}
    classes: tuple[str, ...] = ()
    try:
        import datasets

        with quiet():
            found = datasets.load_dataset(HUB, revision=REVISION)
    except Exception as error:
        check_cache(error)
        looked = f"{local} (missing)" if local else "no data folder (none is set)"
        raise bench.EnvironmentProblem(
            f"dataset cifar10: looked in {looked} and on the hub ({HUB}, not reached: {type(error).__name__}); put "
            f"its train-*.parquet and test-*.parquet into DATA/{FOLDER} and name DATA with --data-dir or BENCH_DATA_DIR"
        ) from error
    for split, part in found.items():
        rows = part.data.table
        source = Table(rows, classes_of(rows.schema))
        splits[split], classes = rows_of(source, f"{HUB} {split}", "img", "label", "", 0)
    return _Source(splits, classes, f"the hub ({HUB})", (HUB, REVISION))
