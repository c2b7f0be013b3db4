"""Keeps computed values, one folder each, named by key. A folder that exists is complete."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from bench.boards import RECORD
from bench.engine.locks import PAUSE, Busy, Lock, Watch, remove
from bench.errors import StoreError
from bench.files import parse_json, read_file
from bench.keys import hash_spec

SUMS = "checksums.json"
SPEC = "spec.json"
OWNER = "of"  # in the checksums of a checkpoint: the key and the phase that it belongs to
LOCK = "lock"
DAMAGED, UNFINISHED = "damaged", "partial"
# What reading comes to where something else lies in the place of a file or a folder, or is closed to this user.
MISPLACED = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EINVAL, errno.EFBIG}
)


class Damaged(Exception):
    """A stored value whose files are not what was written, or not of its key."""


class Store:
    """Folders `<value name>/<key>/` under a root. `warn` receives, in one line, what the user should know."""

    def __init__(self, root: Path, warn: Callable[[str], None]) -> None:
        self.root = root
        self.warn = warn
        self.watch = Watch()

    def folder(self, name: str, key: str) -> Path:
        return self.root / name / key

    def has(self, name: str, key: str) -> bool:
        """Whether there is a value of this name and key; its other files may be damaged."""
        return self.look(name, key) is not None

    def _unreadable(self, error: OSError) -> StoreError:
        return StoreError(
            f"store {self.root} cannot be read ({error.strerror}); choose another with --store or BENCH_STORE"
        )

    def read(self, name: str, key: str, files: tuple[str, ...]) -> dict[str, bytes] | None:
        """The named files of a value, checked; None where the value does not exist. A damaged value is set aside."""
        try:
            found = self._find(name, key, files)
        except Damaged as problem:
            self.reject(name, key, problem)
            return None
        if found is None:
            self._clear(self.root / name)
        return found

    def look(self, name: str, key: str, files: tuple[str, ...] = ()) -> dict[str, bytes] | None:
        """As `read`, but a damaged value stays where it is, and counts as none."""
        try:
            return self._find(name, key, files)
        except Damaged:
            return None

    def reject(self, name: str, key: str, problem: object) -> None:
        """Set a damaged value aside, and say so."""
        moved = self._set_aside(self.folder(name, key))
        self.warn(f"stored {name} {key} is damaged ({problem}); moved to {moved} and computed again")

    def _find(self, name: str, key: str, files: tuple[str, ...]) -> dict[str, bytes] | None:
        """The named files of a value; None where there is none. Raises Damaged."""
        folder = self.folder(name, key)
        try:
            folder.lstat()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise self._unreadable(error) from None
        identity = RECORD if name == "record" else SPEC
        try:
            found = _checked(folder, dict.fromkeys((identity, *files)))
        except OSError as error:
            raise self._unreadable(error) from None
        _check_identity(name, key, found[identity])
        return {file: found[file] for file in files}

    def _set_aside(self, place: Path) -> Path:
        """Move whatever lies in a place to the damaged values."""
        home = self.root / DAMAGED
        top = self.root if place == home else home
        moved = top / f"{place.parent.name}-{place.name}-{uuid.uuid4().hex[:8]}"
        with self._writing():
            if top == home:
                self._clear(home)
            top.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                try:
                    os.replace(place, moved)
                except PermissionError:  # a folder that its owner closed does not move
                    place.chmod(0o700)
                    os.replace(place, moved)
        return moved

    def _clear(self, place: Path) -> None:
        """Set aside what lies in the place of a folder and is none, or is closed to this user."""
        try:
            os.scandir(place).close()
        except OSError as problem:
            if problem.errno in MISPLACED and os.path.lexists(place):
                self.warn(f"{place} is no folder ({problem.strerror}); moved to {self._set_aside(place)}")

    def write(self, name: str, key: str, files: dict[str, bytes]) -> None:
        """Put a value in its place atomically. A value that exists already stays."""
        with self._writing():
            staging = self.root / UNFINISHED / f"{key}-{uuid.uuid4().hex[:8]}"
            staging.mkdir(parents=True)
            try:
                _write_all(staging, files)
                folder = self.folder(name, key)
                folder.parent.mkdir(parents=True, exist_ok=True)
                self._clear(folder)
                _place(staging, folder)
                _sync(folder.parent)
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    def list_folders(self, name: str) -> Iterator[Path]:
        """The folders of all stored values of a name."""
        parent = self.root / name
        try:
            yield from sorted(parent.iterdir()) if parent.is_dir() else ()
        except FileNotFoundError:  # removed meanwhile
            return
        except OSError as error:
            raise self._unreadable(error) from None

    def check_writable(self) -> None:
        """Raise StoreError where the store cannot be written: before work is done rather than after."""
        with self._writing():
            trial = self.root / UNFINISHED / uuid.uuid4().hex
            self._clear(trial.parent)
            trial.parent.mkdir(parents=True, exist_ok=True)
            _write(trial, b"trial")
            trial.unlink()

    @contextlib.contextmanager
    def unfinished(self, key: str) -> Iterator[Unfinished]:
        """The checkpoints of an unfinished value, locked against other processes. Raises Busy where one is at work."""
        place = self.root / UNFINISHED / key
        lock = Lock(place / LOCK, self.watch)
        with self._writing():
            self._clear(place)
            if not lock.take():
                raise Busy(key)
        try:
            yield Unfinished(self, place, lock)
        finally:
            lock.release()
            with contextlib.suppress(OSError):  # it holds checkpoints, or another process has begun
                place.rmdir()

    def is_held(self, key: str) -> bool:
        """Whether a process works on an unfinished value. At first sight, that of another machine counts as working."""
        return self.watch.is_held(self.root / UNFINISHED / key / LOCK)

    def wait(self, keys: Iterable[str]) -> None:
        """Wait until no process works any more on one of some values."""
        keys = tuple(keys)
        while all(map(self.is_held, keys)):
            time.sleep(PAUSE)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            remedy = "free some space, or choose another" if full else "choose another"
            raise StoreError(
                f"store {self.root} cannot be written ({error.strerror}); {remedy} with --store or BENCH_STORE"
            ) from None


class Unfinished:
    """Checkpoints by phase. Each replaces the one before it atomically."""

    def __init__(self, store: Store, place: Path, lock: Lock) -> None:
        self.store, self.place, self.lock = store, place, lock

    def save(self, phase: str, files: dict[str, bytes]) -> None:
        """Save a checkpoint. Raises Busy where another process works on the value now."""
        self._check_lock()
        # Names of their own: a process that slept may come back in the middle of this.
        own = uuid.uuid4().hex[:8]
        staging, old = self.place / f"{phase}.new-{own}", self.place / f"{phase}.old-{own}"
        try:
            with self.store._writing():
                staging.mkdir(parents=True)
                _write_all(staging, files, self._owner(phase))
                with contextlib.suppress(FileNotFoundError):
                    os.replace(self.place / phase, old)
                _place(staging, self.place / phase)
                remove(old)
        except StoreError:
            self._check_lock()
            raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # of a disk that is full, the part that was written

    def load(self, phase: str, files: tuple[str, ...]) -> dict[str, bytes] | None:
        """The newest complete checkpoint of a phase, or None."""
        left: list[Path] = []
        with contextlib.suppress(OSError):
            of_phase = re.compile(rf"{re.escape(phase)}\.(new|old)")
            left = [place for place in self.place.iterdir() if of_phase.match(place.name)]
            left.sort(key=lambda place: place.lstat().st_mtime, reverse=True)
        for place in (self.place / phase, *left):
            if os.path.lexists(place):
                try:
                    return _checked(place, files, self._owner(phase))
                except (Damaged, OSError) as problem:
                    self.store.warn(f"checkpoint {place} is damaged and ignored ({problem})")
        return None

    def discard(self) -> None:
        """Remove all checkpoints; the lock stays."""
        if not self.lock.is_lost():
            with contextlib.suppress(OSError):  # nothing was saved, or the lock is still there
                for place in [place for place in self.place.iterdir() if place.name != LOCK]:
                    remove(place)
                self.place.rmdir()

    def _owner(self, phase: str) -> str:
        return f"{self.place.name}/{phase}"

    def _check_lock(self) -> None:
        if self.lock.is_lost():
            raise Busy(self.place.name)


def _checked(folder: Path, files: Iterable[str], owner: str = "") -> dict[str, bytes]:
    """The named files of a folder. Raises Damaged where they are not what was written, or of another owner."""
    found = {}
    for file in (SUMS, *files):
        try:
            found[file] = read_file(folder / file)
        except OSError as error:
            if error.errno not in MISPLACED:
                raise
            raise Damaged(f"{file}: {error.strerror}") from None
    try:
        sums = parse_json(found[SUMS])
    except ValueError:
        raise Damaged(f"{SUMS} is not JSON") from None
    if not isinstance(sums, dict):
        raise Damaged(f"{SUMS} holds no checksums")
    if sums.get(OWNER, owner) != owner:  # checkpoints of version 0.1 name none
        raise Damaged("it belongs to another value")
    for file in files:
        if hashlib.sha256(found[file]).hexdigest() != sums.get(file):
            raise Damaged(f"{file} does not match its checksum")
    return {file: found[file] for file in files}


def _check_identity(name: str, key: str, content: bytes) -> None:
    """Raise Damaged unless a spec, or a record with its spec, is that of a value of this name and key."""
    try:
        record = parse_json(content) if name == "record" else {"spec": content.decode(), "key": key}
        spec, stated = record["spec"], record["key"]
        made, hashed = str(parse_json(spec)[0]), hash_spec(spec)
    except (ValueError, TypeError, LookupError, AttributeError):
        raise Damaged("its spec cannot be read") from None
    if not re.match(rf"{re.escape(name)}\b", made) or stated != key or hashed != key:
        raise Damaged(f"it is {made[:60]!r} with the key {hashed}")


def _write_all(folder: Path, files: Mapping[str, bytes], owner: str = "") -> None:
    """Write the files of a value or a checkpoint into a new folder, with their checksums."""
    sums = {file: hashlib.sha256(content).hexdigest() for file, content in sorted(files.items())}
    sums |= {OWNER: owner} if owner else {}
    for file, content in {**files, SUMS: json.dumps(sums, indent=1).encode()}.items():
        _write(folder / file, content)
    _sync(folder)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _place(staging: Path, folder: Path) -> None:
    """Rename a folder. One that another process has put there meanwhile stays."""
    try:
        os.replace(staging, folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(staging, ignore_errors=True)


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of a safetensors file; each tensor gets memory of its own, which the format demands."""
    return safetensors.torch.save({name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()})
