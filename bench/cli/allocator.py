"""Keeps the memory that a step frees for the next step."""

from __future__ import annotations

import contextlib
import ctypes
import os

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # numbers of glibc's mallopt


def keep_freed_memory() -> None:
    """Ask glibc not to return freed blocks of up to 32 MiB to the system; elsewhere, do nothing.

    A training or attacking step frees what the next one takes again, and the system clears every page in between, which
    is 10 to 20% of a step on a CPU. The process keeps its peak. Variables of the environment (MALLOC_...) win.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library, or none to be found
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, 2**25)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
