"""Files of others: read only where they are files, and of a size that can be read."""

from __future__ import annotations

import errno
import functools
import json
import os
import stat
from pathlib import Path
from typing import Any

from bench.errors import EnvironmentProblem

LARGEST = 20 * 10**9  # bytes of any file
DIGITS = 300  # of a whole number: a float can hold as many
DEEPEST = 20  # brackets inside brackets
_KINDS = {
    stat.S_IFDIR: (errno.EISDIR, "a folder"),
    stat.S_IFIFO: (errno.EINVAL, "a pipe"),
    stat.S_IFSOCK: (errno.EINVAL, "a socket"),
}


def cache_folder() -> Path:
    """The folder for what can be computed or downloaded again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "robust-explanation-bench"


def check_file(path: Path, limit: int = LARGEST) -> None:
    """Raise OSError where a path leads to no file, or to one of more bytes than the limit. Opens nothing."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        number, kind = _KINDS.get(stat.S_IFMT(status.st_mode), (errno.EINVAL, "a device"))
        raise OSError(number, f"it is {kind}, not a file", str(path))
    if status.st_dev in _kernel_devices():
        raise OSError(errno.EINVAL, "it belongs to the kernel", str(path))
    if status.st_size > limit:
        raise OSError(errno.EFBIG, f"it has {status.st_size} bytes; at most {limit} are read", str(path))


def check_folder(path: Path) -> None:
    """Raise OSError where a folder is a whole file system, or the kernel's: a walk through it would not end."""
    place = path.resolve()
    if place == Path(place.anchor):
        raise OSError(errno.EINVAL, "it is the whole file system", str(path))
    if place.stat().st_dev in _kernel_devices():
        raise OSError(errno.EINVAL, "it belongs to the kernel", str(path))


@functools.cache
def _kernel_devices() -> frozenset[int]:
    """The devices of /proc and /sys. Their files have no size, and reading one may wait forever."""
    places = [place for place in map(Path, ("/proc", "/sys")) if place.is_dir()]
    return frozenset(place.stat().st_dev for place in places) - {Path("/").stat().st_dev}


def read_file(path: Path, limit: int = LARGEST) -> bytes:
    """The content of a file. Raises OSError as `check_file` does."""
    check_file(path, limit)
    return path.read_bytes()


def write_file(path: Path, content: bytes) -> None:
    """Write a file. Raises EnvironmentProblem where it cannot be written."""
    try:
        if path.exists() and not path.is_char_device():  # such as /dev/stdout
            check_file(path)
        path.write_bytes(content)
    except OSError as error:
        full = "free some space, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise EnvironmentProblem(f"{path} cannot be written ({error.strerror}); {full}name another file") from None


def parse_json(text: str | bytes) -> Any:
    """Parse JSON, however deep or long it is. Raises ValueError for all that cannot be parsed."""
    try:
        value = json.loads(text, parse_int=_parse_int)
    except (RecursionError, MemoryError):
        raise ValueError(f"brackets are more than {DEEPEST} deep") from None
    level = [value]
    for _ in range(DEEPEST + 1):
        tables = [part.values() if type(part) is dict else part for part in level if type(part) in (dict, list)]
        if not tables:
            return value
        level = [part for parts in tables for part in parts]
    raise ValueError(f"brackets are more than {DEEPEST} deep")


def _parse_int(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits; at most {DIGITS} are read")
    return int(digits)
