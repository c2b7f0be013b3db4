"""Stage 2 of on_gpu.sh: seconds and peak memory of training steps, attack steps and metrics, on the device.

python benchmarks/gpu_costs.py LINES [--tiny]

Appends a JSON line to LINES for each as it ends. A training step is one of the harness's own loop, batches of 128, with
augmentation and clipping; the first epoch of a few steps does not count. Peak memory is what tensors took at most.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from attacking import passes
from interleaved import interleaved
from measuring import similarities

import bench
from bench.components import Data, Defense
from bench.engine import Fit
from bench.engine.training import products_in

TINY = "--tiny" in sys.argv
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BATCH, STEPS, EPOCHS = (4, 1, 2) if TINY else (128, 8, 3)
SCHEDULES = {"lenet": "joo2023_lenet", "resnet18_cifar": "joo2023_resnet18"}
DEFENSES = [
    "ce",
    "l2_cosd",
    "hessian",
    "atex",
    "l2",
    "ssr",
    "norm_at",
    "cosd",
    "adversarial",
    "trades",
    "iga",
    "ig_norm",
]


class Checkpoints:
    """Takes the place of a store's: keeps of each checkpoint what its phase has cost so far."""

    def __init__(self) -> None:
        self.costs: list[dict[str, Any]] = []

    def load(self, phase: str, files: tuple[str, ...]) -> None:
        return None

    def save(self, phase: str, files: dict[str, bytes]) -> None:
        self.costs.append(json.loads(files["progress.json"])["phase"])

    def discard(self) -> None:
        pass


def step(model: str, defense: str) -> dict[str, Any]:
    """Milliseconds and peak MiB of a step; of a defense with several phases, of the last."""
    noise = torch.Generator().manual_seed(0)
    count = BATCH * STEPS
    data = Data(torch.rand(count, 3, 32, 32, generator=noise), torch.arange(count) % 10, tuple("0123456789"))
    schedule = bench.component("schedule", f"{SCHEDULES[model]}:epochs={EPOCHS},decay=({EPOCHS}),batch={BATCH}")
    network = bench.component("model", model)
    checkpoints = Checkpoints()

    def trained_by(other: Defense, seed: int) -> tuple[torch.nn.Module, list[Any]]:
        return network.build(data.shape, 10).to(DEVICE).eval().requires_grad_(False), []

    fit = Fit(data, network, schedule, 0, DEVICE, checkpoints, [], trained_by)
    with warnings.catch_warnings(record=True, action="always") as told:
        bench.component("defense", defense).train(fit)
    costs = [cost for cost in checkpoints.costs if cost["name"] == checkpoints.costs[-1]["name"]]
    seconds = (costs[-1]["seconds"] - costs[0]["seconds"]) / (len(costs) - 1) / STEPS
    peak = costs[-1]["peak_bytes"]
    cost = {"ms": round(1e3 * seconds, 3), "peak_mib": None if peak is None else round(peak / 2**20, 1)}
    return cost | {"told": sorted({str(warning.message) for warning in told})}


def pieces(work: Mapping[str, Callable[[], object]], steps: int = 1) -> Iterator[dict[str, Any]]:
    """Median milliseconds of each piece, per step, and the median ratio to the first."""
    wait = torch.cuda.synchronize if DEVICE.type == "cuda" else lambda: None
    times = interleaved(work, 1 if TINY else 3, wait)
    base = next(iter(times.values()))
    for name, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, base, strict=True))
        yield {"piece": name, "ms": round(1e3 * statistics.median(seconds) / steps, 3), "ratio": round(ratio, 2)}


def training(model: str, defenses: list[str], note: str = "") -> Iterator[dict[str, Any]]:
    """A line for each defense; where one fails, with its problem."""
    for defense in defenses[:3] if TINY else defenses:
        try:
            cost = step(model, defense)
        except Exception as error:
            cost = {"problem": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        yield {"table": "training", "of": model, "piece": defense + note, **cost}
        gc.collect()
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()


def captured(model: str) -> Iterator[dict[str, Any]]:
    """Steps as CUDA graphs; where a capture fails, as long as the others, and told."""
    with mock.patch.dict(os.environ, BENCH_CUDA_GRAPHS="1"):
        yield from training(model, DEFENSES[:-2], ", CUDA graphs")


def attacking(model: str) -> Iterator[dict[str, Any]]:
    count, steps = (4, 2) if TINY else (256, 20)
    yield from (
        {"table": "attacking", "of": model, **line} for line in pieces(passes(model, count, steps, DEVICE), steps)
    )


def measuring(metric: str) -> Iterator[dict[str, Any]]:
    work = similarities(metric, 16 if TINY else 256, DEVICE)
    yield from ({"table": "measuring", "of": metric, **line} for line in pieces(work))


def costs() -> Iterator[dict[str, Any]]:
    yield from training("lenet", DEFENSES)
    yield from captured("lenet")
    for model in ("lenet", "lenet:activation=relu"):
        yield from attacking(model)
    for metric in ("spearman", "ssim"):
        yield from measuring(metric)
    yield from training("resnet18_cifar", DEFENSES)
    yield from captured("resnet18_cifar")
    yield from attacking("resnet18_cifar")


def main() -> None:
    with Path(sys.argv[1]).open("a", buffering=1) as lines, products_in("float32"):
        for line in costs():
            print(json.dumps(line), file=lines)


if __name__ == "__main__":
    main()
