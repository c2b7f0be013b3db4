"""Loads libraries and plugins quickly."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collect_later() -> Iterator[None]:
    """Keep the garbage collector from what loads inside, which stays until the process ends.

    It would look at all of that again and again, which is a sixth of the time that torch takes to load.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
