"""Loads libraries, plugins and boards quickly."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def collect_later() -> Iterator[None]:
    """Keep the garbage collector from what loads inside, which stays until the process ends.

    It would look at all of that again and again, which is a sixth of the time that torch takes to load and a quarter of
    that of a large board, and once more afterwards.
    """
    enabled, loaded = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > loaded:  # else garbage alone would be kept
            gc.freeze()
        if enabled:
            gc.enable()
