"""Bars for work in this process, and how far it is in words."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

with warnings.catch_warnings():  # about a notebook without widgets, which gets lines instead
    warnings.simplefilter("ignore")
    from tqdm.auto import tqdm as tqdm


@dataclass(eq=False)
class _Count:
    """How much of some work is done; `first`: how much was done before."""

    total: int
    unit: str
    first: int
    done: int
    since: float


_counts: list[_Count] = []  # the inner after the outer


@contextlib.contextmanager
def counted(total: int, name: str, unit: str, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show how much of some work is done; yields a function to call with what has been added."""
    count = _Count(total, unit, done, done, time.monotonic())
    with tqdm(total=total, initial=done, desc=name, unit=unit, leave=False, disable=None, delay=1) as bar:

        def add(more: int) -> None:
            count.done += more
            bar.update(more)

        _counts.append(count)
        try:
            yield add
        finally:
            _counts.remove(count)


def describe_count() -> str:
    """How far the outermost work in this process is, in parentheses; "" where nothing is done yet."""
    for count in _counts[:1]:
        if made := count.done - count.first:
            left = (time.monotonic() - count.since) / made * (count.total - count.done)
            return f" ({count.unit} {count.done} of {count.total}, {say_span(left)} left)"
    return ""


def say_span(seconds: float) -> str:
    """A time span in words: "40 s", "25 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
