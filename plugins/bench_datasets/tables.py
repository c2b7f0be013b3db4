"""Read Parquet files in the layout of Hugging Face `datasets`, with images as bytes and classes in the features."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import bench
from bench_datasets.splits import Files

SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}


def parquet_files(path: Path) -> dict[str, tuple[Path, ...]]:
    """Find Parquet files by split: SPLIT-*.parquet or SPLIT/*.parquet anywhere below a folder, or one file.

    Files that name no split are a test split. Raises EnvironmentProblem where there are no files.
    """
    if not path.exists():
        raise bench.EnvironmentProblem(f"{path} does not exist; check the path")
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise bench.EnvironmentProblem(f"{path} contains no Parquet files")
    found: dict[str, tuple[Path, ...]] = {}
    for file in files:
        stem = re.split(r"[^a-z]", file.stem.lower())[0]
        split = SPLITS.get(stem) or (SPLITS.get(file.parent.name.lower()) if path.is_dir() else None)
        if split:
            found[split] = (*found.get(split, ()), file)
    return found or {"test": tuple(files)}


def table(files: tuple[Path, ...]) -> Any:
    """Open Parquet files as one `datasets.Dataset`, which stays on disk."""
    return _table(files, tuple(bench.checksum(file) for file in files))


@functools.cache
def _table(files: tuple[Path, ...], sums: tuple[str, ...]) -> Any:
    import datasets
    import pyarrow.parquet

    with quiet():
        try:
            # The library caches by path and time of change; this name tells different contents apart.
            content = hashlib.sha256("".join(sums).encode()).hexdigest()[:16]
            found = datasets.load_dataset(
                "parquet", content, data_files={"rows": [str(f.resolve()) for f in files]}, split="rows"
            )
            features = [datasets.Features.from_arrow_schema(pyarrow.parquet.read_schema(f)) for f in files]
        except Exception as error:
            cause = error.__cause__ or error
            raise bench.EnvironmentProblem(
                f"{files[0]} cannot be read as Parquet ({' '.join(str(cause).split())[:200]})"
            ) from error
    for column in features[0]:
        one_of(
            {file.name: tuple(getattr(f.get(column), "names", ())) for file, f in zip(files, features, strict=True)},
            str(files[0].parent),
        )
    return found


def one_of(names: Mapping[str, tuple[str, ...]], about: str) -> tuple[str, ...]:
    """Return the classes that all parts of a set share.

    Raises EnvironmentProblem where they differ, because labels would mean different things.
    """
    (first, classes), *others = names.items()
    for part, theirs in others:
        if theirs != classes:
            raise bench.EnvironmentProblem(
                f"{about}: the classes of {part} are {', '.join(theirs)[:100]}, those of {first} "
                f"{', '.join(classes)[:100]}; store all parts with the same class names in the same order"
            )
    return classes


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the progress bars of `datasets` inside a `with`."""
    import datasets

    before = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            datasets.enable_progress_bars()


@functools.cache
def rows_of(source: Any, about: str, image: str, label: str, mask: str, classes: int) -> tuple[Files, tuple[str, ...]]:
    """Read a split's files and its classes from the columns of a `datasets.Dataset`.

    `about` names it in messages. `label` and `mask` may be "", for none.
    """
    for role, name in (("image", image), ("label", label), ("mask", mask)):
        if name and name not in source.features:
            none = "" if role == "image" else f', or {role}="" for a set without one'
            raise bench.EnvironmentProblem(
                f"{about} has no column {name!r} (it has {', '.join(source.features)}); name it with {role}=...{none}"
            )
    count = len(source)
    labels, names = None, tuple(map(str, range(classes)))
    if label:
        names = tuple(getattr(source.features[label], "names", None) or names)
        labels = _labels(source, about, label, names)
    files = Files(
        count,
        labels,
        _contents(source, about, image),
        _contents(source, about, mask) if mask else None,
        lambda row: f"image {row} of {about}",
    )
    return files, names


def _labels(source: Any, about: str, label: str, names: tuple[str, ...]) -> torch.Tensor:
    column = source.data.column(label)
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise bench.EnvironmentProblem(f"{about}: the {label!r} of row {row} is missing; remove such rows")
    values: Any = source.with_format("numpy")[label][:] if len(source) else []
    if not names or (len(source) and (values.dtype.kind not in "iu" or values.ndim != 1)):
        raise bench.EnvironmentProblem(
            f"{about}: column {label!r} has no class names; store it as a datasets.ClassLabel, or as whole numbers and "
            "say how many there are with classes=..."
        )
    labels = torch.as_tensor(values, dtype=torch.int64)
    wrong = ((labels < 0) | (labels >= len(names))).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise bench.EnvironmentProblem(
            f"{about}: the {label!r} of row {row} is {int(labels[row])}, outside its {len(names)} classes"
        )
    return labels


def _contents(source: Any, about: str, column: str) -> Any:
    import datasets

    with quiet():
        try:
            files = source.select_columns(column).cast_column(column, datasets.Image(decode=False))
            if len(files):
                files[0]
        except Exception as error:
            raise bench.EnvironmentProblem(
                f"{about}: column {column!r} contains {source.features[column]}, not images"
            ) from error

    def read(rows: Sequence[int]) -> list[bytes]:
        cells = files[list(rows)][column] if rows else []
        return [_content(cell) for cell in cells]

    return read


def _content(cell: Any) -> bytes:
    """Return the content of an image cell, or empty bytes, which no decoder accepts, where there is none.

    A path alone counts as none: its file could change without changing the set's identity.
    """
    return (cell or {}).get("bytes") or b""
