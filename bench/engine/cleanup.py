"""What a store holds, and what of it nothing can use any more."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.boards.record import RECORD, VERSION
from bench.engine.catalog import Catalog
from bench.engine.evidence import VOCABULARY
from bench.engine.graph import SPEC
from bench.engine.store import Store, held
from bench.errors import StoreError

ASIDE, UNFINISHED = "damaged", "partial"
DAY = 86400.0


@dataclass(frozen=True)
class Holding:
    """The stored values of one name: how many, and their bytes."""

    name: str
    count: int
    size: int


@dataclass(frozen=True)
class Useless:
    """A folder that nothing can use any more, why, and its bytes."""

    folder: Path
    reason: str
    size: int


def holdings(store: Store) -> list[Holding]:
    """What there is by name, unfinished and damaged values included."""
    found = []
    for place in sorted(store.root.iterdir()) if store.root.is_dir() else ():
        folders = [folder for folder in place.iterdir() if folder.is_dir()] if place.is_dir() else []
        if folders:
            found.append(Holding(place.name, len(folders), sum(map(size, folders))))
    return found


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def useless(store: Store, catalog: Catalog, unfinished: bool) -> Iterator[Useless]:
    """Values whose versions have moved, damaged ones that were set aside, and what an interrupted writer left; with
    `unfinished`, also the checkpoints of trainings that nobody is at. What belongs to
    components that are not installed stays."""
    for folder in store.entries(ASIDE):
        yield Useless(folder, "damaged", size(folder))
    for folder in store.entries(UNFINISHED):
        # A write goes to a folder of its own, named by the key and eight digits more, and takes seconds.
        if re.search(r"-[0-9a-f]{8}$|^[0-9a-f]{32}$", folder.name):
            if time.time() - folder.stat().st_mtime > DAY:
                yield Useless(folder, "left by an interrupted write", size(folder))
        elif unfinished and not held(folder):
            yield Useless(folder, "unfinished", size(folder))
    for name in ("record", *VOCABULARY.values):
        for folder in store.entries(name):
            moved = _moved(folder, name, catalog)
            if moved:
                yield Useless(folder, moved, size(folder))


def _moved(folder: Path, name: str, catalog: Catalog) -> str:
    """What has moved since a value was computed; "" where nothing has, or where it cannot be told."""
    try:
        text = json.loads((folder / RECORD).read_bytes())["spec"] if name == "record" else (folder / SPEC).read_text()
        made, versions, chosen = json.loads(text)
        pairs = [(made.partition("/")[0], f"record@{VERSION}")] if name == "record" else []
        pairs += [
            (f"{n} {v}", f"{n} {VOCABULARY.values[n].version if n in VOCABULARY.values else '-'}")
            for n, v in versions.items()
        ]
        texts = [str(choice) for choice in (*chosen.values(), made)]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return ""
    for kind, component, version in (match for text in texts for match in re.findall(r"(\w+)/(\w+)@(\d+)\(", text)):
        cls = catalog.components.get(kind, {}).get(component)
        if cls is not None:
            pairs.append((f"{kind} {component} {version}", f"{kind} {component} {cls.version}"))
    return "; ".join(f"{then} is now {now.rpartition(' ')[2]}" for then, now in pairs if then != now)


def remove(store: Store, found: Useless) -> None:
    """Set aside first, at once and whole: what an interruption leaves is found there and goes next time."""
    try:
        if found.folder.is_dir():
            aside = store.root / ASIDE / f"{found.folder.name}-{uuid.uuid4().hex[:8]}"
            aside.parent.mkdir(exist_ok=True)
            os.replace(found.folder, aside)
            shutil.rmtree(aside)
        else:
            found.folder.unlink()
    except FileNotFoundError:  # another process was quicker
        pass
    except OSError as error:
        raise StoreError(f"{found.folder} cannot be removed ({error.strerror}); check whose it is") from None
