"""The files that components read: the folder of data sets, and checksums."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from bench.downloads import Download, fetch_path
from bench.errors import EnvironmentProblem
from bench.files import check_file, check_folder

T = TypeVar("T")
VARIABLE = "BENCH_DATA_DIR"
PUBLISHED = re.compile(r"(?!\.\.?#)([^/]+)#([0-9a-f]{16})")  # of something in a folder, not of the folder or its parent

_named: contextvars.ContextVar[Path | None] = contextvars.ContextVar("data_dir", default=None)


def data_dir() -> Path | None:
    """The folder of data sets: the one given to `use_data_dir`, else the one that BENCH_DATA_DIR names, else None."""
    named = _named.get() or os.environ.get(VARIABLE)
    return Path(named) if named else None


@contextlib.contextmanager
def use_data_dir(folder: str | Path | None) -> Iterator[None]:
    """Inside, `data_dir` returns this folder. None changes nothing."""
    if folder is not None and not Path(folder).is_dir():
        raise EnvironmentProblem(f"data folder {folder} does not exist; check --data-dir and {VARIABLE}")
    token = _named.set(_named.get() if folder is None else Path(folder))
    try:
        yield
    finally:
        _named.reset(token)


_known: contextvars.ContextVar[tuple[Download, ...]] = contextvars.ContextVar("known_files", default=())


@contextlib.contextmanager
def know_files(files: Iterable[Download]) -> Iterator[None]:
    """Inside, `locate` checks these files before it gives them, and downloads those that are not at hand."""
    token = _known.set(tuple(files))
    try:
        yield
    finally:
        _known.reset(token)


def locate(path: Path) -> Path:
    """The path itself, or the same path below the data folder if only that exists.

    A published path, NAME#CHECKSUM, leads to what has this name and content: here, in the data folder, or in a folder
    of that.
    """
    below = data_dir()
    known = [file for file in _known.get() if path in (Path(file.name), *Path(file.name).parents)]
    if known:
        return fetch_path(path, known, [Path(), *([below] if below else [])])
    if path.exists():
        return path
    if below and (below / path).exists():
        return below / path
    published = PUBLISHED.fullmatch(str(path))
    if not published:
        return path
    name, content = published.groups()
    places = [Path(), *([below, *sorted(each for each in below.iterdir() if each.is_dir())] if below else [])]
    return next(
        (place / name for place in places if (place / name).exists() and checksum(place / name) == content), path
    )


_frozen: contextvars.ContextVar[dict[Path, str] | None] = contextvars.ContextVar("frozen", default=None)
# By the number of an object in memory and the name of the fact, with the object, so that no other gets the number.
_facts: contextvars.ContextVar[dict[tuple[int, str], tuple[Any, Any]] | None] = contextvars.ContextVar(
    "facts", default=None
)


@contextlib.contextmanager
def freeze_files() -> Iterator[None]:
    """Inside, files are assumed not to change: each path is walked and hashed once, each identity made once."""
    frozen, facts = _frozen.get(), _facts.get()
    tokens = _frozen.set({} if frozen is None else frozen), _facts.set({} if facts is None else facts)
    try:
        yield
    finally:
        _frozen.reset(tokens[0])
        _facts.reset(tokens[1])


def remember(owner: Any, name: str, make: Callable[[], T]) -> T:
    """What follows from an object and its files. Inside `freeze_files`, it is made once."""
    known = _facts.get()
    if known is None:
        return make()
    place = id(owner), name
    if place not in known:
        known[place] = owner, make()
    fact: T = known[place][1]
    return fact


def checksum(path: Path) -> str:
    """sha256 of a file or folder, 16 digits. Inside `freeze_files`, it is computed once."""
    known = _frozen.get()
    if known is None:
        return _checksum(path)
    if path not in known:
        known[path] = _checksum(path)
    return known[path]


def _checksum(path: Path) -> str:
    """sha256 of a file, or of the names and contents of a folder's files."""
    found = hashlib.sha256()
    try:
        for file in sorted(_files_below(path)) if path.is_dir() else [path]:
            check_file(file)
            state = file.stat()
            found.update(str(file.relative_to(path)).encode() + b"\0")
            found.update(_content_sum(file.resolve(), state.st_size, (state.st_mtime_ns, state.st_ctime_ns)))
    except OSError as error:
        raise EnvironmentProblem(
            f"{error.filename or path} cannot be read ({error.strerror}); check the path"
        ) from None
    return found.hexdigest()[:16]


def _files_below(folder: Path) -> Iterator[Path]:
    """The files of a folder, through links, but not into a folder in which the link itself lies."""
    for at, folders, names in os.walk(folder, followlinks=True):
        check_folder(Path(at))
        here = Path(at).resolve()
        folders[:] = [name for name in folders if not here.is_relative_to((here / name).resolve())]
        yield from (file for name in names if (file := Path(at, name)).is_file())


@functools.cache
def _content_sum(file: Path, size: int, changed: tuple[int, int]) -> bytes:
    """sha256 of a file's content. A process reads the file once, unless its size or its times change."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
