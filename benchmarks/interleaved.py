"""Times pieces of work against each other: one after the other, round by round, so that a machine's drift hits all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from tabulate import tabulate


def interleaved(
    work: Mapping[str, Callable[[], object]], rounds: int = 5, wait: Callable[[], object] = lambda: None
) -> dict[str, list[float]]:
    """Seconds of each piece in each round, after one round that does not count.

    `wait` waits for the device, which may still compute when a piece returns.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(rounds + 1):
        for name, piece in work.items():
            start = time.perf_counter()
            piece()
            wait()
            if round_:
                times[name].append(time.perf_counter() - start)
    return times


def report(times: Mapping[str, list[float]], base: str) -> str:
    """Median seconds, and the median over rounds of the ratio to the base."""
    rows = []
    for name, seconds in times.items():
        ratios = [a / b for a, b in zip(seconds, times[base], strict=True)]
        rows.append(
            [
                name,
                f"{statistics.median(seconds):.3f}",
                f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
            ]
        )
    return tabulate(rows, ["work", "seconds", f"ratio to {base}", "range"], disable_numparse=True)
