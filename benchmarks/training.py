"""What a training step of each defense costs: LeNet with softplus, batches of 128.

python benchmarks/training.py [--threads N] [--precision P] [--plain] [DEFENSE ...]

Beside the seconds of a step stand those of its floating point operations at the rate at which this machine multiplies
matrices, and its ratio to ce's step in the same rounds. --plain adds every defense as it is without `bench.layers` and
in torch's own layout. Of atex it is the third step, the student's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

import torch
from interleaved import interleaved
from tabulate import tabulate
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import bench
from bench.cli.allocator import keep_freed_memory
from bench.components.data import Data
from bench.components.kinds import Schedule
from bench.engine import training
from bench.engine.store import Store
from bench.engine.training import Fit

DEFENSES = (
    "l2",
    "cosd",
    "l2_cosd",
    "hessian",
    "ssr",
    "atex",
    "norm_at",
    "norm_at:scheme=iterative",
    "adversarial",
    "trades",
    "iga",
)
BATCH, STEPS = 128, 2


def trainings(schedule: Schedule, folder: str, names: list[str]) -> dict[str, object]:
    """A training of STEPS steps by each defense, by its name."""
    data = bench.component("dataset", "shapes").load("train")
    data = data.at(torch.arange(BATCH * STEPS))
    data = Data(data.images, data.labels, data.classes)
    model = bench.component("model", "lenet")
    teacher = model.build(data.shape, len(data.classes)).eval().requires_grad_(False)
    # Maps of the teacher are the second step.
    type(bench.component("defense", "atex"))._maps = lambda self, teacher, fit: (
        torch.randn_like(data.images),
        torch.randn(len(data), len(data.classes)),
    )

    def work(name: str):
        defense = bench.component("defense", name)

        def train() -> None:
            with Store(Path(folder), print).unfinished(name.replace(":", "_")) as unfinished:
                fit = Fit(data, model, schedule, 0, torch.device("cpu"), unfinished, [], lambda other: (teacher, []))
                defense.train(fit)
                unfinished.discard()

        return train

    return {name: work(name) for name in names}


@contextlib.contextmanager
def plain():
    """Inside, layers and layout are torch's own."""
    with (
        mock.patch("bench.layers.softplus", torch.nn.functional.softplus),
        mock.patch("bench.activations.softplus", torch.nn.functional.softplus),
        mock.patch("bench.gradients.CheapSecondDerivatives", contextlib.nullcontext),
        mock.patch.object(training, "_memory_format", lambda device, precision: torch.contiguous_format),
    ):
        yield


def without_layers(train):
    def run() -> None:
        with plain():
            train()

    return run


def rate(size: int = 1536) -> float:
    """Floating point operations a second of a product of matrices, the best of five."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds[1:])


class Operations(TorchDispatchMode):
    """Counts the floating point operations of products and convolutions.

    torch's FlopCounterMode also tells modules apart, by hooks that do not bear a gradient by an image.
    """

    total = 0

    def __torch_dispatch__(self, func, types, args=(), named=None):
        output = func(*args, **(named or {}))
        if func._overloadpacket in flop_registry:
            self.total += flop_registry[func._overloadpacket](*args, **(named or {}), out_val=output)
        return output


def operations(train) -> float:
    """Floating point operations of a step."""
    with Operations() as counter:
        train()
    return counter.total / STEPS


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("defenses", nargs="*", default=DEFENSES)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    schedule = bench.component(
        "schedule", f"quick:epochs=1,batch={BATCH},limit={BATCH * STEPS},precision={options.precision}"
    )
    with tempfile.TemporaryDirectory() as folder:
        work = trainings(schedule, folder, ["ce", *options.defenses])
        flops = {name: operations(train) for name, train in work.items()}
        if options.plain:
            work |= {f"{name}, plain": without_layers(train) for name, train in list(work.items())}
        times = interleaved(work, options.rounds)
    speed = rate()
    rows = []
    for name, seconds in times.items():
        least = flops[name.removesuffix(", plain")] / speed
        step = statistics.median(seconds) / STEPS
        to_ce, to_plain = (
            f"{statistics.median(a / b for a, b in zip(seconds, times[other], strict=True)):.2f}"
            if other in times
            else ""
            for other in ("ce", f"{name}, plain")
        )
        rows.append([name, f"{step:.3f}", f"{least:.3f}", f"{step / least:.2f}", to_ce, to_plain])
    print(f"{options.threads} threads, {speed / 1e9:.0f} GF/s of matrix products in float32, {options.precision}\n")
    columns = ["defense", "s a step", "its operations at that rate", "ratio", "to ce", "to plain"]
    print(tabulate(rows, columns, disable_numparse=True))
