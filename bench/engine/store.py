"""Keeps computed values, one folder each, named by key. A folder that exists is complete."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from bench.errors import StoreError

STALE = 120.0  # seconds without a heartbeat after which another machine's lock counts as abandoned
SUMS = "checksums.json"
LOCK = "lock"


class Damaged(Exception):
    """A stored value whose files are not what was written."""


class Store:
    """Folders `<value name>/<key>/` under a root. `warn` receives, in one line, what the user should know."""

    def __init__(self, root: Path, warn: Callable[[str], None]) -> None:
        self.root = root
        self.warn = warn

    def folder(self, name: str, key: str) -> Path:
        return self.root / name / key

    def has(self, name: str, key: str) -> bool:
        try:
            return self.folder(name, key).is_dir()
        except OSError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: OSError) -> StoreError:
        return StoreError(
            f"store {self.root} cannot be read ({error.strerror}); choose another with --store or BENCH_STORE"
        )

    def read(self, name: str, key: str, files: tuple[str, ...]) -> dict[str, bytes] | None:
        """The named files of a value, checked; None where the value does not exist. A damaged value is set aside."""
        if not self.has(name, key):
            return None
        folder = self.folder(name, key)
        try:
            return _checked(folder, files)
        except (Damaged, FileNotFoundError, IsADirectoryError, NotADirectoryError) as problem:
            moved = self.root / "damaged" / f"{name}-{key}-{uuid.uuid4().hex[:8]}"
            with self._writing():
                moved.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):  # another process was quicker
                    os.replace(folder, moved)
            self.warn(f"stored {name} {key} is damaged ({problem}); moved to {moved} and computed again")
            return None
        except OSError as error:
            raise self._unreadable(error) from None

    def write(self, name: str, key: str, files: dict[str, bytes]) -> None:
        """Put a value in its place atomically. A value that exists already stays."""
        with self._writing():
            staging = self.root / "partial" / f"{key}-{uuid.uuid4().hex[:8]}"
            staging.mkdir(parents=True)
            try:
                sums = {file: hashlib.sha256(content).hexdigest() for file, content in sorted(files.items())}
                for file, content in {**files, SUMS: json.dumps(sums, indent=1).encode()}.items():
                    _write(staging / file, content)
                _sync(staging)
                folder = self.folder(name, key)
                folder.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.replace(staging, folder)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                _sync(folder.parent)
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    def list_folders(self, name: str) -> Iterator[Path]:
        """The folders of all stored values of a name."""
        parent = self.root / name
        yield from sorted(parent.iterdir()) if parent.is_dir() else ()

    def check_writable(self) -> None:
        """Raise StoreError where the store cannot be written: before work is done rather than after."""
        with self._writing():
            trial = self.root / "partial" / uuid.uuid4().hex
            trial.parent.mkdir(parents=True, exist_ok=True)
            _write(trial, b"trial")
            trial.unlink()

    @contextlib.contextmanager
    def unfinished(self, key: str) -> Iterator[Unfinished]:
        """The checkpoints of an unfinished value, locked against other processes."""
        place = self.root / "partial" / key
        with self._writing():
            place.mkdir(parents=True, exist_ok=True)
        lock = Lock(place / LOCK, self.warn)
        with self._writing():
            lock.take()
        try:
            yield Unfinished(self, place)
        finally:
            lock.release()

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

    def __init__(self, store: Store, place: Path) -> None:
        self.store, self.place = store, place

    def save(self, phase: str, files: dict[str, bytes]) -> None:
        with self.store._writing():
            staging = self.place / f"{phase}.new"
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            sums = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
            for file, content in {**files, SUMS: json.dumps(sums).encode()}.items():
                _write(staging / file, content)
            _sync(staging)
            old = self.place / f"{phase}.old"
            shutil.rmtree(old, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.place / phase, old)
            os.replace(staging, self.place / phase)
            shutil.rmtree(old, ignore_errors=True)

    def load(self, phase: str, files: tuple[str, ...]) -> dict[str, bytes] | None:
        """The newest complete checkpoint of a phase, or None."""
        for place in (self.place / phase, self.place / f"{phase}.new", self.place / f"{phase}.old"):
            if place.is_dir():
                try:
                    return _checked(place, files)
                except (Damaged, OSError):
                    self.store.warn(f"checkpoint {place} is damaged and ignored")
        return None

    def discard(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)


class Lock:
    """A file that says which process works on a value. A thread renews its time of change as a heartbeat."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self.path, self.warn = path, warn
        self.mine = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "token": uuid.uuid4().hex})
        self.released = threading.Event()

    def take(self) -> None:
        """Take the lock, after waiting for a living process that holds it."""
        has_warned = False
        while True:
            try:
                with self.path.open("x") as stream:
                    stream.write(self.mine)
                threading.Thread(target=self._beat, daemon=True).start()
                return
            except FileExistsError:
                if self._remove_abandoned():
                    continue
            except FileNotFoundError:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                continue
            if not has_warned:
                self.warn(f"waiting for another process that computes {self.path.parent.name}")
                has_warned = True
            time.sleep(0.5)

    def _remove_abandoned(self) -> bool:
        """Remove the lock of a process that is gone; False where the process lives."""
        try:
            age, text = time.time() - self.path.stat().st_mtime, self.path.read_text()
        except OSError:
            return False
        if not is_abandoned(text, age):
            return False
        # Renamed first, since another process may have taken the lock in the meantime.
        moved = self.path.with_name(f"lock-{uuid.uuid4().hex}")
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.path, moved)
            if moved.read_text() != text:
                with contextlib.suppress(FileExistsError):
                    os.link(moved, self.path)
            moved.unlink()
        return True

    def _beat(self) -> None:
        while not self.released.wait(STALE / 4):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def release(self) -> None:
        self.released.set()
        with contextlib.suppress(OSError):
            if self.path.read_text() == self.mine:
                self.path.unlink()


def is_abandoned(text: str, age: float) -> bool:
    """Whether a lock with this text, last renewed `age` seconds ago, belongs to a process that is gone."""
    try:
        owner = json.loads(text)
        here, alive = owner["host"] == socket.gethostname(), _alive(owner["pid"])
    except (ValueError, TypeError, KeyError):
        return age > 5  # cut off while it was written, or not one of our locks
    return age > STALE or (here and not alive)


def is_held(folder: Path) -> bool:
    """Whether a process works on an unfinished value."""
    lock = folder / LOCK
    try:
        return not is_abandoned(lock.read_text(), time.time() - lock.stat().st_mtime)
    except OSError:
        return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _checked(folder: Path, files: tuple[str, ...]) -> dict[str, bytes]:
    try:
        sums = json.loads((folder / SUMS).read_bytes())
    except ValueError:
        raise Damaged(f"{SUMS} is not JSON") from None
    if not isinstance(sums, dict):
        raise Damaged(f"{SUMS} holds no checksums")
    found = {}
    for file in files:
        content = (folder / file).read_bytes()
        if hashlib.sha256(content).hexdigest() != sums.get(file):
            raise Damaged(f"{file} does not match its checksum")
        found[file] = content
    return found


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


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of a safetensors file; each tensor gets memory of its own, which the format demands."""
    return safetensors.torch.save({name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()})
