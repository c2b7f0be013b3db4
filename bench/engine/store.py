"""Keeps what was computed, in one folder per value, named by its key; a folder that exists is complete."""

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
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.errors import StoreError

STALE = 120.0  # seconds without a heartbeat after which another machine's lock counts as abandoned
SUMS = "checksums.json"
LOCK = "lock"


def key(spec: str) -> str:
    """The key of a value, from the text that says what it is made from."""
    return hashlib.sha256(spec.encode()).hexdigest()[:16]


class Damaged(Exception):
    """A stored value whose files are not what was written."""


class Store:
    """Folders `<value name>/<key>/` under a root. `warn` is told, in one line, what the user should know."""

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
        """The asked files of a value, checked; None where there is no such value. A damaged one is set aside."""
        if not self.has(name, key):
            return None
        folder = self.folder(name, key)
        try:
            return _checked(folder, files)
        except (Damaged, FileNotFoundError, IsADirectoryError, NotADirectoryError) as problem:
            aside = self.root / "damaged" / f"{name}-{key}-{uuid.uuid4().hex[:8]}"
            with self._writing():
                aside.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):  # another process was quicker
                    os.replace(folder, aside)
            self.warn(f"stored {name} {key} is damaged ({problem}); set aside in {aside} and computed again")
            return None
        except OSError as error:
            raise self._unreadable(error) from None

    def write(self, name: str, key: str, files: dict[str, bytes]) -> None:
        """Put a value in its place at once and whole; where it is there already, keep that one."""
        with self._writing():
            beside = self.root / "partial" / f"{key}-{uuid.uuid4().hex[:8]}"
            beside.mkdir(parents=True)
            try:
                sums = {file: hashlib.sha256(content).hexdigest() for file, content in sorted(files.items())}
                for file, content in {**files, SUMS: json.dumps(sums, indent=1).encode()}.items():
                    _write(beside / file, content)
                _sync(beside)
                folder = self.folder(name, key)
                folder.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.replace(beside, folder)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                _sync(folder.parent)
            finally:
                shutil.rmtree(beside, ignore_errors=True)

    def entries(self, name: str) -> Iterator[Path]:
        """The folders of all stored values of a name."""
        place = self.root / name
        yield from sorted(place.iterdir()) if place.is_dir() else ()

    def check_writable(self) -> None:
        """Raise StoreError before any work is done rather than after."""
        with self._writing():
            trial = self.root / "partial" / uuid.uuid4().hex
            trial.parent.mkdir(parents=True, exist_ok=True)
            _write(trial, b"trial")
            trial.unlink()

    @contextlib.contextmanager
    def unfinished(self, key: str) -> Iterator[Unfinished]:
        """The checkpoints of a value in the making, locked against other processes."""
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
    """Checkpoints by phase; each replaces the one before it at once."""

    def __init__(self, store: Store, place: Path) -> None:
        self.store, self.place = store, place

    def save(self, phase: str, files: dict[str, bytes]) -> None:
        with self.store._writing():
            beside = self.place / f"{phase}.new"
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            sums = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
            for file, content in {**files, SUMS: json.dumps(sums).encode()}.items():
                _write(beside / file, content)
            _sync(beside)
            old = self.place / f"{phase}.old"
            shutil.rmtree(old, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.place / phase, old)
            os.replace(beside, self.place / phase)
            shutil.rmtree(old, ignore_errors=True)

    def load(self, phase: str, files: tuple[str, ...]) -> dict[str, bytes] | None:
        """The newest whole checkpoint of a phase, or None."""
        for place in (self.place / phase, self.place / f"{phase}.new", self.place / f"{phase}.old"):
            if place.is_dir():
                try:
                    return _checked(place, files)
                except (Damaged, OSError):
                    self.store.warn(f"checkpoint {place} is damaged; not used")
        return None

    def discard(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)


class Lock:
    """A file that says who works on a value; its age is the heartbeat, which a thread keeps low."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self.path, self.warn = path, warn
        self.mine = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "token": uuid.uuid4().hex})
        self.released = threading.Event()

    def take(self) -> None:
        """Wait for whoever holds the lock, unless they are gone."""
        told = False
        while True:
            try:
                with self.path.open("x") as stream:
                    stream.write(self.mine)
                threading.Thread(target=self._beat, daemon=True).start()
                return
            except FileExistsError:
                if self._taken_away():
                    continue
            except FileNotFoundError:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                continue
            if not told:
                self.warn(f"waiting for another process that computes {self.path.parent.name}")
                told = True
            time.sleep(0.5)

    def _taken_away(self) -> bool:
        """Remove the lock of someone who is gone; False where they are not."""
        try:
            age, text = time.time() - self.path.stat().st_mtime, self.path.read_text()
        except OSError:
            return False
        if not abandoned(text, age):
            return False
        # Renamed first, since another may have taken the lock between the look and this.
        aside = self.path.with_name(f"lock-{uuid.uuid4().hex}")
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.path, aside)
            if aside.read_text() != text:
                with contextlib.suppress(FileExistsError):
                    os.link(aside, self.path)
            aside.unlink()
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


def abandoned(text: str, age: float) -> bool:
    """Whether a lock with this text, untouched for so many seconds, belongs to nobody any more."""
    try:
        owner = json.loads(text)
        here, alive = owner["host"] == socket.gethostname(), _alive(owner["pid"])
    except (ValueError, TypeError, KeyError):
        return age > 5  # cut off while it was written, or no lock of ours
    return age > STALE or (here and not alive)


def held(folder: Path) -> bool:
    """Whether somebody is at work on an unfinished value."""
    lock = folder / LOCK
    try:
        return not abandoned(lock.read_text(), time.time() - lock.stat().st_mtime)
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
