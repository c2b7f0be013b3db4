"""Keeps computed values, one folder each, named by key. A folder that exists is complete."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from bench.boards import RECORD
from bench.errors import StoreError
from bench.files import parse_json, read_file
from bench.keys import hash_spec

STALE = 120.0  # seconds without a heartbeat after which another machine's lock counts as abandoned
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


class Overtaken(Exception):
    """Another process has taken over a lock that this one did not renew in time, as after a sleep."""


class Store:
    """Folders `<value name>/<key>/` under a root. `warn` receives, in one line, what the user should know."""

    def __init__(self, root: Path, warn: Callable[[str], None]) -> None:
        self.root = root
        self.warn = warn

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
        """The checkpoints of an unfinished value, locked against other processes."""
        place = self.root / UNFINISHED / key
        lock = Lock(place / LOCK, self.warn)
        with self._writing():
            self._clear(place)
            place.mkdir(parents=True, exist_ok=True)
            lock.take()
        try:
            yield Unfinished(self, place, lock)
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

    def __init__(self, store: Store, place: Path, lock: Lock) -> None:
        self.store, self.place, self.lock = store, place, lock

    def save(self, phase: str, files: dict[str, bytes]) -> None:
        """Save a checkpoint. Raises Overtaken where another process works on the value now."""
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
                _remove(old)
        except StoreError:
            self._check_lock()
            raise

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
        if not self.lock.is_lost():
            shutil.rmtree(self.place, ignore_errors=True)

    def _owner(self, phase: str) -> str:
        return f"{self.place.name}/{phase}"

    def _check_lock(self) -> None:
        if self.lock.is_lost():
            raise Overtaken(f"another process computes {self.place.name}")


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

    def is_lost(self) -> bool:
        """Whether the lock is another's although this one was not released."""
        return not self.released.is_set() and _read_lock(self.path)[0] != self.mine

    def _remove_abandoned(self) -> bool:
        """Remove the lock of a process that is gone; False where the process lives."""
        text, age = _read_lock(self.path)
        if not is_abandoned(text, age):
            return False
        # Renamed first, since another process may have taken the lock in the meantime.
        moved = self.path.with_name(f"lock-{uuid.uuid4().hex}")
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.path, moved)
            if _read_lock(moved)[0] != text:
                with contextlib.suppress(FileExistsError):
                    os.link(moved, self.path)
            _remove(moved)
        return True

    def _beat(self) -> None:
        while not self.released.wait(STALE / 4) and not self.is_lost():
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def release(self) -> None:
        self.released.set()
        if _read_lock(self.path)[0] == self.mine:
            _remove(self.path)


def _read_lock(path: Path) -> tuple[str, float]:
    """The text of a lock, "" where it has none, and the seconds since it was renewed."""
    try:
        age = time.time() - path.lstat().st_mtime
    except OSError:
        return "", 0.0
    try:
        return read_file(path, 10_000).decode(), age
    except (OSError, ValueError):
        return "", age


def is_abandoned(text: str, age: float) -> bool:
    """Whether a lock with this text, last renewed `age` seconds ago, belongs to a process that is gone."""
    try:
        owner = parse_json(text)
        here, alive = owner["host"] == socket.gethostname(), _alive(owner["pid"])
    except (ValueError, TypeError, KeyError):
        return age > 5  # cut off while it was written, or not one of our locks
    return age > STALE or (here and not alive)


def is_held(folder: Path) -> bool:
    """Whether a process works on an unfinished value."""
    return os.path.lexists(folder / LOCK) and not is_abandoned(*_read_lock(folder / LOCK))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


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


def _remove(place: Path) -> None:
    """Remove a folder, or whatever lies in its place."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            place.unlink()


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of a safetensors file; each tensor gets memory of its own, which the format demands."""
    return safetensors.torch.save({name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()})
