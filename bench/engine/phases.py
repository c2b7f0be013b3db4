"""What work costs: seconds, memory and passes, phase by phase."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from bench.gradients import Passes


@dataclass(frozen=True)
class Phase:
    """A part of the work on a stored value, and its cost.

    Wall seconds, peak GPU bytes (None on a CPU), forward passes over a batch, runs of the autograd engine.
    """

    name: str
    seconds: float
    peak_bytes: int | None
    forwards: int
    backwards: int


@contextlib.contextmanager
def measure(log: list[Phase], name: str, network: nn.Module, before: Phase | None = None) -> Iterator[Passes]:
    """Append to a log what the work inside costs, added to what it cost `before` an interruption.

    Backward passes are counted only where the yielded mode is entered, which costs microseconds per torch function.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    passes = Passes()
    with passes.watch(network):
        yield passes
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    if before is not None:
        seconds += before.seconds
        peak = None if peak is None else max(peak, before.peak_bytes or 0)
        passes.forwards, passes.backwards = passes.forwards + before.forwards, passes.backwards + before.backwards
    log.append(Phase(name, seconds, peak, passes.forwards, passes.backwards))
