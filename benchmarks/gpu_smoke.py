"""Stage 1 of on_gpu.sh: one tiny run of each component, and every contract of every component, on the device.

python benchmarks/gpu_smoke.py LINES WORKERS [--tiny]

Appends a JSON line to LINES for each as it ends: kind, name, contract ("run" for a run), seconds, and its problem.
Several processes work side by side, since tiny work leaves a device idle.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import torch

import bench
from bench.components import parameters
from bench.engine import installed, list_cells, select
from bench.engine.training import products_in
from bench.testing import checks, on_device

RUN = "run"
OPTIONS = {
    "schedule": ["quick:epochs=1,batch=16,limit=64"],
    "defense": ["ce"],
    "explainer": ["gradient"],
    "attack": ["topk:k=5,steps=2"],
    "metric": ["accuracy", "topk_overlap"],
    "samples": [8],
}
KINDS = ("explainer", "attack", "defense", "model", "schedule", "metric", "dataset")
LOST = ("CUDA error", "cuBLAS error", "CUDNN_STATUS")  # after these a process computes nothing more on its GPU

Task = tuple[str, str, str]  # kind, text, and name of the contract or RUN


def tasks(tiny: bool) -> Iterator[Task]:
    """Runs first: one of each component that needs no file, with the first of its examples; then the contracts."""
    catalog = installed()
    for kind in KINDS:
        classes = [cls for cls in catalog.of(kind).values() if cls.examples]
        ready = [cls for cls in classes if not any(parameter.required for parameter in parameters(cls).values())]
        for cls in ready[:1] if tiny else ready:
            yield kind, f"{cls.name}:{cls.examples[0]}".strip(":"), RUN
    for kind in KINDS:
        found = checks(kind)
        yield from ((check.kind, check.text, check.contract.__name__) for check in (found[:3] if tiny else found))


def attempt(task: Task, store: str) -> str:
    """The problem of a task in one line; "" where there is none."""
    kind, text, contract = task
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if contract != RUN:
        (check,) = (each for each in checks(kind) if (each.text, each.contract.__name__) == (text, contract))
        with on_device(device), products_in("float32"):
            return check.failure()
    given = {**OPTIONS, kind: [text]}
    if not bench.run(**given, reference=False, store=store, device=device):
        selection = select(installed(), given, False)
        return f"refused: {list_cells(installed(), selection.cases, selection.metrics)[0].refusal}"
    return ""


def timed(task: Task, store: str) -> tuple[float, str]:
    """The seconds of a task, and its problem."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    try:
        problem = attempt(task, store)
    except Exception as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return time.perf_counter() - start, problem


def work(todo: list[Task], store: str, workers: int) -> Iterator[tuple[Task, float, str]]:
    """Do tasks side by side; ends early after an error that a process does not outlive."""
    waiting, running = iter(todo), {}
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        lost = False
        while not lost:
            for task in itertools.islice(waiting, workers - len(running)):
                running[pool.submit(timed, task, store)] = task
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                try:
                    seconds, problem = future.result()
                except BrokenProcessPool:
                    seconds, problem = 0.0, "a process died in this task or in one beside it"
                    lost = True
                lost |= any(text in problem for text in LOST)
                yield running.pop(future), seconds, problem


def main() -> None:
    todo = dict.fromkeys(tasks("--tiny" in sys.argv))
    workers = int(sys.argv[2])
    with Path(sys.argv[1]).open("a", buffering=1) as lines, tempfile.TemporaryDirectory() as store:
        while todo:
            for task, seconds, problem in work(list(todo), store, workers):
                del todo[task]
                kind, text, contract = task
                line = {
                    "kind": kind,
                    "name": text,
                    "contract": contract,
                    "seconds": round(seconds, 2),
                    "problem": problem,
                }
                print(json.dumps(line), file=lines)


if __name__ == "__main__":
    main()
