"""Compares published records with those of a new run. Uses neither torch nor plugins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.boards.cell import COSTS
from bench.boards.protocol import Protocol
from bench.boards.record import Record


def compare_runs(protocol: Protocol, published: Iterable[Record], again: Mapping[str, Record]) -> list[str]:
    """A line for each published record whose value a new run misses by more than the protocol allows; costs are not
    compared."""
    lines = []
    for record in published:
        shown_axes = ("defense", "explainer", "attack", "ball", "seed")
        about = f"{record.metric} of " + ", ".join(f"{a} {record.axes[a]}" for a in shown_axes if a in record.axes)
        new = again.get(record.key)
        if new is None:
            lines.append(f"{about}: published, but no longer part of the board's protocol; publish the board again")
        elif record.unit not in COSTS:
            allowed = protocol.allowed(record.metric)
            if (record.value is None) != (new.value is None):
                lines.append(f"{about}: published {record.value}, computed {new.value}")
            elif record.value is not None and new.value is not None and abs(record.value - new.value) > allowed:
                lines.append(
                    f"{about}: published {record.value:.4f}, computed {new.value:.4f}; the tolerance is {allowed:g}"
                )
    return lines
