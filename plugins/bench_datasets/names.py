"""Read splits from the names of files and folders, by the rules of Hugging Face `datasets` (its data_files.py)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import bench
from bench.files import check_file, check_folder

KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
BREAK = r"[-._ 0-9]"  # what sets a keyword apart in a name
SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}.*\..*")


def splits_in(name: str, end: str = "$|") -> list[str]:
    """The splits that the name of a folder has a keyword of; of a file, whose keyword does not end the name, end=""."""
    return [
        split
        for split, words in KEYWORDS.items()
        if re.search(rf"(^|{BREAK})({'|'.join(words)})({end}{BREAK})", name.lower())
    ]


def is_hidden(path: Path) -> bool:
    """Whether a name is that of something hidden, or of a cache such as __pycache__."""
    return path.name.startswith((".", "__"))


def list_files(folder: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """The files below a folder, through links, except those that are hidden or in hidden folders.

    A link to a folder that it lies in is not followed. Raises EnvironmentProblem for a name of a file that is a pipe or
    a device, and for a folder that is the whole file system.
    """
    try:
        yield from _list_files(folder, tuple(suffixes), ())
    except OSError as error:
        raise bench.EnvironmentProblem(f"{error.filename} cannot be read ({error.strerror}); check the path") from None


def _list_files(folder: Path, suffixes: tuple[str, ...], above: tuple[Path, ...]) -> Iterator[Path]:
    here = folder.resolve()
    if here in above:
        return
    check_folder(folder)
    for path in sorted(folder.iterdir()):
        if is_hidden(path):
            continue
        if path.is_dir():
            yield from _list_files(path, suffixes, (*above, here))
        elif path.name.lower().endswith(suffixes):
            with contextlib.suppress(FileNotFoundError):  # a link that leads nowhere is an image that is damaged
                check_file(path)
            yield path


def by_split(files: Sequence[Path], base: Path) -> tuple[dict[str, tuple[Path, ...]], list[Path]]:
    """The files of each split, and those that no split has although others name one.

    In turn, until a rule finds a file: data/SPLIT-00000-of-00001.*, a folder whose name has a keyword, a file whose
    name has one. Where none does, all are a test split. Raises EnvironmentProblem for a name of two splits.
    """
    places = {file: file.relative_to(base).parts for file in files}
    for rule in (_of_shard, _of_folders, _of_file):
        named = {file: rule(parts) for file, parts in places.items()}
        if any(named.values()):
            break
    else:
        return {"test": tuple(files)}, []
    for file, splits in named.items():
        if len(splits) > 1:
            raise bench.EnvironmentProblem(f"{file} has names of {' and '.join(splits)}; rename it, or its folder")
    found = {split: tuple(f for f in files if named[f] == [split]) for split in sorted(KEYWORDS)}
    return {split: mine for split, mine in found.items() if mine}, [f for f in files if not named[f]]


def _of_shard(parts: tuple[str, ...]) -> list[str]:
    shard = SHARD.fullmatch(parts[-1]) if len(parts) == 2 and parts[0] == "data" else None
    return splits_in(shard[1]) if shard else []


def _of_folders(parts: tuple[str, ...]) -> list[str]:
    named = [splits for name in parts[:-1] if (splits := splits_in(name))]
    return min(named, key=len, default=[])


def _of_file(parts: tuple[str, ...]) -> list[str]:
    return splits_in(parts[-1], end="")


def describe_left_out(files: Sequence[Path], base: Path, why: str) -> str:
    """Say how many files are left out, and which is the first; "" for none."""
    if not files:
        return ""
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{files[0].relative_to(base)}{more} left out: {why}"
