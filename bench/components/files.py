"""Where data sets find their files: the folder that the user names."""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Iterator
from pathlib import Path

from bench.errors import EnvironmentProblem

VARIABLE = "BENCH_DATA_DIR"

_named: contextvars.ContextVar[Path | None] = contextvars.ContextVar("data_dir", default=None)


def data_dir() -> Path | None:
    """The folder that holds data sets, each in a folder of its own: the one given to `data_from`, else the one that
    BENCH_DATA_DIR names; None where neither does."""
    named = _named.get() or os.environ.get(VARIABLE)
    return Path(named) if named else None


@contextlib.contextmanager
def data_from(folder: str | Path | None) -> Iterator[None]:
    """Inside, `data_dir` is this folder; None leaves it as it is."""
    if folder is not None and not Path(folder).is_dir():
        raise EnvironmentProblem(f"data folder {folder} is not there; check --data-dir and {VARIABLE}")
    token = _named.set(_named.get() if folder is None else Path(folder))
    try:
        yield
    finally:
        _named.reset(token)
