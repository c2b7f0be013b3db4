"""Locks: files that say which process works on a value.

A thread of the owner renews the time of change of its file. Whoever waits measures by its own clock for how long that
time has stayed as it is: clocks of two machines are never compared. A library's lock would need `flock`, which not
every network file system has, or leave the lock of a machine that has gone down for ever.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import threading
import time
import uuid
from pathlib import Path

from bench.files import parse_json, read_file

STALE = 120.0  # seconds without a heartbeat after which a lock counts as abandoned
TORN = 5.0  # the same for a lock that was cut off while it was written, or that is not one of ours

# By which a network file system says that it is out of reach, which often passes.
PASSING = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN})

PAUSE = 0.5  # seconds between two looks at the locks that a process waits for


class Busy(Exception):
    """Another process works on a value: it did before, or has taken over a lock that was not renewed in time."""

    def __init__(self, key: str) -> None:
        super().__init__(f"another process computes {key}")
        self.key = key


class Watch:
    """What this process has seen of others' locks: the state of each, and since when it is unchanged."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[tuple[str, int], float]] = {}

    def is_held(self, path: Path) -> bool:
        """Whether a process works behind a lock. At its first sight, the lock of another machine counts as held."""
        return os.path.lexists(path) and not self.is_abandoned(path, read_lock(path))

    def is_abandoned(self, path: Path, state: tuple[str, int]) -> bool:
        """Whether the owner of a lock, read just now, is gone, or has let it be for longer than it may."""
        now = time.monotonic()
        if state != self._seen.get(path, ("", 0))[0]:
            self._seen[path] = state, now
        return is_owner_gone(state[0], now - self._seen[path][1])

    def forget(self, path: Path) -> None:
        self._seen.pop(path, None)


class Lock:
    """A file that says which process works on a value. A thread renews its time of change as a heartbeat."""

    def __init__(self, path: Path, watch: Watch) -> None:
        self.path, self.watch = path, watch
        owner = {"host": socket.gethostname(), "space": find_space(), "pid": os.getpid(), "token": uuid.uuid4().hex}
        self.mine = json.dumps(owner)
        self.released = threading.Event()

    def take(self) -> bool:
        """Take the lock; False where another process holds it."""
        while True:
            try:
                with self.path.open("x") as stream:
                    stream.write(self.mine)
            except FileExistsError:
                found = read_lock(self.path)
                if not self.watch.is_abandoned(self.path, found):
                    return False
                self._remove(found[0])
            except FileNotFoundError:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            else:
                self.watch.forget(self.path)
                threading.Thread(target=self._beat, daemon=True).start()
                return True

    def is_lost(self) -> bool:
        """Whether the lock is another's although this one was not released."""
        if self.released.is_set():
            return False
        try:
            return read_file(self.path, 10_000) != self.mine.encode()
        except OSError as error:
            return error.errno not in PASSING

    def _remove(self, text: str) -> None:
        """Remove a lock of this text. It is renamed first, since another process may have taken the lock meanwhile."""
        moved = self.path.with_name(f"lock-{uuid.uuid4().hex}")
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.path, moved)
            if read_lock(moved)[0] != text:
                with contextlib.suppress(FileExistsError):
                    os.link(moved, self.path)
            remove(moved)

    def _beat(self) -> None:
        while not self.released.wait(STALE / 4) and not self.is_lost():
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def release(self) -> None:
        self.released.set()
        if read_lock(self.path)[0] == self.mine:
            remove(self.path)


def read_lock(path: Path) -> tuple[str, int]:
    """The text of a lock, "" where it has none, and its time of change in nanoseconds."""
    try:
        text = read_file(path, 10_000).decode()
    except (OSError, ValueError):
        text = ""
    try:
        return text, path.lstat().st_mtime_ns  # after reading, which brings a network file system's copy up to date
    except OSError:
        return "", 0


def is_owner_gone(text: str, unrenewed: float) -> bool:
    """Whether a lock with this text, seen unrenewed for some seconds, belongs to a process that is gone."""
    try:
        owner = parse_json(text)
        is_here = (owner["host"], owner.get("space", find_space())) == (socket.gethostname(), find_space())
        alive = _is_alive(owner["pid"])
    except (ValueError, TypeError, KeyError):
        return unrenewed > TORN
    return unrenewed > STALE or (is_here and not alive)


def find_space() -> str:
    """What numbers of processes are unique in. Containers of one host name may each have their own numbers."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # of a system that has none
        return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def remove(place: Path) -> None:
    """Remove a folder, or whatever lies in its place."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            place.unlink()
