"""What a store holds, and which of its values no run can use any more."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.boards import RECORD, VERSION
from bench.engine.catalog import Catalog
from bench.engine.evidence import VOCABULARY
from bench.engine.store import DAMAGED, SPEC, UNFINISHED, Store
from bench.errors import StoreError
from bench.files import parse_json
from bench.keys import Spec

DAY = 86400.0


@dataclass(frozen=True)
class Holding:
    """The stored values of one name: their number and bytes."""

    name: str
    count: int
    size: int


@dataclass(frozen=True)
class Unusable:
    """A folder that no run can use any more, the reason, and its bytes."""

    folder: Path
    reason: str
    size: int


def list_holdings(store: Store) -> list[Holding]:
    """The holdings by name, unfinished and damaged values included."""
    holdings = []
    for place in store.list_folders("."):
        folders = [folder for folder in store.list_folders(place.name) if folder.is_dir()]
        if folders:
            holdings.append(Holding(place.name, len(folders), sum(map(size, folders))))
    return holdings


def size(folder: Path) -> int:
    """The bytes of all files below a folder. Files that another process removes meanwhile count nothing."""
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(at, name).lstat().st_size
    return total


def find_unusable(store: Store, catalog: Catalog, unfinished: bool) -> Iterator[Unusable]:
    """Values of old versions, damaged values, and the remains of interrupted writes.

    With `unfinished` also the checkpoints of trainings that no process works on. Values of components that are not
    installed stay.
    """
    for folder in store.list_folders(DAMAGED):
        yield Unusable(folder, "damaged", size(folder))
    now = _find_time(store)
    for folder in store.list_folders(UNFINISHED):
        # A write uses a folder named by the key and eight more digits, and takes seconds.
        if re.search(r"-[0-9a-f]{8}$|^[0-9a-f]{32}$", folder.name):
            if now - _find_change(folder, now) > DAY:
                yield Unusable(folder, "left by an interrupted write", size(folder))
        elif unfinished and not store.is_held(folder.name):
            yield Unusable(folder, "unfinished", size(folder))
    for name in ("record", *VOCABULARY.values):
        for folder in store.list_folders(name):
            changes = _describe_changes(store, name, folder.name, catalog)
            if changes:
                yield Unusable(folder, changes, size(folder))


def _find_time(store: Store) -> float:
    """The time on the clock that dates the store's files, which may be another machine's."""
    try:
        with tempfile.TemporaryFile(dir=store.root / UNFINISHED) as stream:
            return os.fstat(stream.fileno()).st_mtime
    except OSError:  # nothing is there, or nothing can be written
        return time.time()


def _find_change(folder: Path, gone: float) -> float:
    """When something changed in a folder; `gone` where it is gone meanwhile."""
    try:
        return folder.lstat().st_mtime
    except FileNotFoundError:
        return gone


def _describe_changes(store: Store, name: str, key: str, catalog: Catalog) -> str:
    """Which versions have changed since a value was computed; "" where none has, or the value is damaged."""
    identity = RECORD if name == "record" else SPEC
    files = store.look(name, key, (identity,))
    if files is None:
        return ""
    try:
        spec = Spec.parse(parse_json(files[RECORD])["spec"] if name == "record" else files[SPEC].decode())
        pairs = [(spec.made.partition("/")[0], f"record@{VERSION}")] if name == "record" else []
        pairs += [
            (f"{n} {v}", f"{n} {VOCABULARY.values[n].version if n in VOCABULARY.values else '-'}")
            for n, v in spec.versions.items()
        ]
    except ValueError:
        return ""
    for kind, component, version in spec.identities():
        cls = catalog.components.get(kind, {}).get(component)
        if cls is not None:
            pairs.append((f"{kind} {component} {version}", f"{kind} {component} {cls.version}"))
    return "; ".join(f"{then} is now {now.rpartition(' ')[2]}" for then, now in pairs if then != now)


def remove(store: Store, unusable: Unusable) -> None:
    """Remove a folder. It moves to the damaged ones first, where the next run finds what an interruption leaves."""
    try:
        if unusable.folder.is_dir() and not unusable.folder.is_symlink():
            moved = store.root / DAMAGED / f"{unusable.folder.name}-{uuid.uuid4().hex[:8]}"
            moved.parent.mkdir(exist_ok=True)
            os.replace(unusable.folder, moved)
            shutil.rmtree(moved)
        else:
            unusable.folder.unlink()
    except FileNotFoundError:  # another process was quicker
        pass
    except OSError as error:
        raise StoreError(f"{unusable.folder} cannot be removed ({error.strerror}); check its owner") from None
