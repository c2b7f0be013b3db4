"""What work costs: seconds, memory and passes, phase by phase."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bench.engine.bars import count_pass
from bench.gradients import Passes


@dataclass(frozen=True)
class Phase:
    """A part of the work on a stored value, and its cost.

    Wall seconds, peak GPU bytes (None on a CPU), forward passes over a batch, runs of the autograd engine. `shared`:
    whether other processes worked on the same device or cores, so that the seconds are no measure.
    """

    name: str
    seconds: float
    peak_bytes: int | None
    forwards: int
    backwards: int
    shared: bool = False

    def as_row(self) -> dict[str, Any]:
        """Its fields, as files have them: `shared` only where it holds."""
        return {name: value for name, value in vars(self).items() if name != "shared" or self.shared}


_shares = False


def share_device(shares: bool) -> None:
    """Say of all phases of this process whether others of its run work on its device."""
    global _shares
    _shares = shares


def is_shared() -> bool:
    """Whether others work on this process's device: of its run, or, as BENCH_SHARED=1 says, of any other."""
    return _shares or os.environ.get("BENCH_SHARED") == "1"


@contextlib.contextmanager
def measure(log: list[Phase], name: str, network: nn.Module, before: Phase | None = None) -> Iterator[Passes]:
    """Append to a log what the work inside costs, added to what it cost `before` an interruption.

    Backward passes are counted only where the yielded mode is entered, which costs microseconds per torch function.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    passes = Passes(count_pass)
    with passes.watch(network):
        yield passes
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds, shared = time.perf_counter() - start, is_shared()
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    if before is not None:
        seconds, shared = seconds + before.seconds, shared or before.shared
        peak = None if peak is None else max(peak, before.peak_bytes or 0)
        passes.forwards, passes.backwards = passes.forwards + before.forwards, passes.backwards + before.backwards
    log.append(Phase(name, seconds, peak, passes.forwards, passes.backwards, shared))
