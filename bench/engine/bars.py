"""Bars for work in this process, and how far it is."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

with warnings.catch_warnings():  # about a notebook without widgets, which gets lines instead
    warnings.simplefilter("ignore")
    from tqdm.auto import tqdm as tqdm


@dataclass(eq=False)
class Count:
    """How much of some work is done; `first`: how much was done before, at the time `since`; `changed`: when more was.
    `passes`: how often the network has run since the work began.

    Times are of the monotonic clock, which the processes of a machine share.
    """

    total: int
    unit: str
    first: int
    done: int
    since: float
    changed: float
    passes: int = 0
    name: str = ""

    def moved(self, seconds: float) -> Count:
        """The same on a clock that is some seconds ahead."""
        return dataclasses.replace(self, since=self.since + seconds, changed=self.changed + seconds)

    def left(self) -> float | None:
        """The seconds that are left at the pace so far; None before there is one.

        They shrink between two changes as well, since a chunk of images takes minutes.
        """
        if self.done == self.first:
            return None
        pace = (self.changed - self.since) / (self.done - self.first)
        return max(0.0, pace * (self.total - self.done) + self.changed - time.monotonic())

    def __str__(self) -> str:
        left = self.left()
        passes = f", {self.passes:,} passes" if self.passes and self.done == self.first else ""
        return f"{self.unit} {self.done} of {self.total}" + (f", {say_span(left)} left" if left else passes)


# The inner after the outer.
_counts: list[Count] = []
_bars: list[tqdm] = []


@contextlib.contextmanager
def counted(total: int, name: str, unit: str, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show how much of some work is done; yields a function to call with what has been added."""
    now = time.monotonic()
    count = Count(total, unit, done, done, now, now, name=name)
    with tqdm(total=total, initial=done, desc=name, unit=unit, leave=False, disable=None, delay=1) as bar:

        def add(more: int) -> None:
            count.done, count.changed = count.done + more, time.monotonic()
            bar.set_postfix_str("", refresh=False)
            bar.update(more)

        _counts.append(count)
        _bars.append(bar)
        try:
            yield add
        finally:
            _counts.remove(count)
            _bars.remove(bar)


def count_pass() -> None:
    """Say that a network runs, which shows that work goes on before any part of it is done."""
    for count, bar in zip(_counts, _bars, strict=True):
        count.passes += 1
        if count.done == count.first:
            bar.set_postfix_str(f"{count.passes:,} passes", refresh=False)
            bar.update(0)


def find_count() -> Count | None:
    """The count of the outermost work in this process."""
    return next(iter(_counts), None)


def say_span(seconds: float) -> str:
    """A time span in words: "40 s", "25 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
