"""Training steps as CUDA graphs."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.gradients import Passes

NOT_CAPTURED = "the training's steps cannot be a CUDA graph and are slower"
WARM = 3  # ordinary steps before a capture, in which libraries choose kernels and the optimiser makes its state

Step = Callable[[Tensor, Tensor, Passes], Tensor]


@dataclass(frozen=True)
class _Captured:
    indices: Tensor
    keys: Tensor
    loss: Tensor
    replay: Callable[[], None]
    forwards: int
    backwards: int


def capture_graph(step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Record what a step launches. Returns what launches it again, and the tensor that then holds the loss."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    return graph.replay, loss


class CapturedSteps:
    """Launches a whole training step at once: forward, derivatives, clipping and optimiser.

    `step(indices, keys, passes)` takes the step for the images with these indices and noise keys and returns the loss,
    without waiting for the device. A step is captured for every number of images and every `rate`, after a few ordinary
    ones, with indices and keys on the device. Where a capture fails, because a step waits for the device or copies from
    the CPU, a warning says why, and all steps are ordinary.

    What a step does in Python happens once for a capture: a loss that counts its calls must not be captured.
    """

    def __init__(self, step: Step, device: torch.device, capture: Callable[..., tuple[Callable[[], None], Tensor]]):
        self._step, self._device, self._capture = step, device, capture
        self._steps: Counter[tuple[int, float]] = Counter()
        self._captured: dict[tuple[int, float], _Captured] = {}
        self.has_failed = False

    def __call__(self, indices: Tensor, keys: Tensor, rate: float, passes: Passes) -> Tensor:
        kind = len(indices), rate
        self._steps[kind] += 1
        if kind in self._captured:
            found = self._captured[kind]
            passes.forwards += found.forwards
            passes.backwards += found.backwards
        elif self.has_failed or self._steps[kind] <= WARM:
            return self._step(indices, keys, passes)
        else:
            before = passes.forwards, passes.backwards
            places = indices.to(self._device, copy=True), keys.to(self._device, copy=True)
            try:
                replay, loss = self._capture(lambda: self._step(*places, passes))
            except RuntimeError as error:
                self.has_failed = True
                warnings.warn(f"{NOT_CAPTURED}: {' '.join(str(error).split())[:200]}", stacklevel=2)
                passes.forwards, passes.backwards = before
                return self._step(indices, keys, passes)
            counts = passes.forwards - before[0], passes.backwards - before[1]
            found = self._captured[kind] = _Captured(*places, loss, replay, *counts)
        found.indices.copy_(indices, non_blocking=True)
        found.keys.copy_(keys, non_blocking=True)
        found.replay()
        return found.loss.clone()


def is_capture_wanted(device: torch.device) -> bool:
    """Whether BENCH_CUDA_GRAPHS=1 asks for CUDA graphs on this device."""
    return device.type == "cuda" and os.environ.get("BENCH_CUDA_GRAPHS") == "1"
