"""CIFAR-10."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import bench
from bench.images import Frame
from bench_datasets.splits import Files, assemble
from bench_datasets.tables import Table, check_cache, classes_of, one_of, parquet_files, quiet, rows_of, table

HUB, REVISION = "uoft-cs/cifar10", "0b2714987fa478483af9968de7c934580d0bb9a2"
FOLDER = "cifar10"


@dataclass(frozen=True)
class CIFAR10(bench.Dataset):
    """Load 60,000 images of 32 x 32 pixels in ten classes (Krizhevsky, 2009).

    They come from the Parquet files train-* and test-* in the folder cifar10 of the data folder, with columns image (or
    img) and label. Without these files, they come from the Hugging Face hub, uoft-cs/cifar10 at a pinned revision. The
    source is part of the set's identity. A tenth of the training images, equally many of each class, is held out for
    validation.
    """

    name = "cifar10"
    paper = bench.Paper(
        "Learning Multiple Layers of Features from Tiny Images",
        "Alex Krizhevsky",
        "Technical report, University of Toronto",
        2009,
        "https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf",
    )
    examples = ()
    validation: float = bench.param(0.1, "share of the training images to hold out for validation", low=0, high=0.9)

    def load(self, split: str) -> bench.Data:
        folder = bench.data_dir()
        local = folder / FOLDER if folder else None
        splits, classes, fingerprint, note = _local(local) if local and local.is_dir() else (*_hub(local), "")
        frame = Frame(0, 0, "none")
        return assemble(splits, split, classes, frame, self.validation, "stop", fingerprint, note=note)


def _local(folder: Path) -> tuple[dict[str, Files], tuple[str, ...], str, str]:
    found, note = parquet_files(folder)
    missing = {"train", "test"} - set(found)
    if missing:
        raise bench.EnvironmentProblem(f"{folder} has no {' and no '.join(sorted(missing))} files (SPLIT-*.parquet)")
    splits, names = {}, {}
    for split, files in found.items():
        image = "image" if "image" in table(files).columns else "img"
        splits[split], names[split] = rows_of(table(files), str(files[0]), image, "label", "", 0)
    sums = [bench.checksum(file) for files in found.values() for file in files]
    return splits, one_of(names, str(folder)), hashlib.sha256("".join(sums).encode()).hexdigest()[:16], note


@functools.cache
def _hub(local: Path | None) -> tuple[dict[str, Files], tuple[str, ...], str]:
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
    return splits, classes, REVISION
