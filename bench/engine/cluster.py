"""Computes tasks on the machines of a Ray cluster. All of them see the store, which is all that they share."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bench.components import data_dir, use_data_dir
from bench.engine.bars import Count, find_count
from bench.engine.catalog import Catalog
from bench.engine.executors import ERRORS, PATIENCE, TELLING, Here, Order, answer, as_error, name_error, open_worker
from bench.engine.store import Store
from bench.engine.tasks import Ended, Task
from bench.errors import BenchError, CellFailed, EnvironmentProblem, quote_error, summarise_error

LOCAL = "local"  # by which Ray starts a cluster on this machine, even where one runs or RAY_ADDRESS names one
WAITING = 2000  # tasks that Ray holds at a time, running or not
RETRIES = 2  # of a task whose worker or machine is lost
AUTH = "RAY_AUTH_MODE"  # unset, `ray start` asks others for a token once this machine has one, but they send none
CALLS = 50  # tasks of a worker on a GPU before it ends, so that its memory comes back

_open: dict[bytes, tuple[Path | None, Here]] = {}  # of the run that this worker is ready for, with its data folder


class Counts:
    """How far tasks are, by key, as their workers say. It lives in a process of its own."""

    def __init__(self) -> None:
        self.counts: dict[str, Count] = {}

    def put(self, key: str, count: Count) -> None:
        """Take a count whose times are relative to now."""
        self.counts[key] = count.moved(time.monotonic())

    def read(self) -> dict[str, Count]:
        now = time.monotonic()
        return {key: count.moved(-now) for key, count in self.counts.items()}


@contextlib.contextmanager
def _telling(counts: Any, key: str) -> Iterator[None]:
    """Say at times how far the task in this worker is."""
    over = threading.Event()

    def tell() -> None:
        with contextlib.suppress(Exception):  # of a cluster that is gone
            while not over.wait(TELLING):
                if count := find_count():
                    counts.put.remote(key, count.moved(-time.monotonic()))

    threading.Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def compute(order: bytes, counts: Any, key: str, task: bytes) -> tuple[str, ...]:
    """Compute a task in a worker, which stays ready for others of the same run."""
    if order not in _open:
        _open.clear()
        told: Order = pickle.loads(order)
        try:
            with use_data_dir(told.data):
                _open[order] = told.data, open_worker(told)
        except BenchError as problem:
            return "stopped", name_error(problem), str(problem)
    folder, executor = _open[order]
    with use_data_dir(folder), _telling(counts, key):
        return answer(executor, task)


class Cluster:
    """Computes tasks as Ray's, each on a core or a GPU, or on the part of it that `sharing` of them leave each other.

    `address`: of a cluster, "auto" for the one that this machine belongs to, LOCAL for one that ends with the run.
    """

    is_wide = True

    def __init__(self, catalog: Catalog, store: Store, device: str, address: str, sharing: int = 1) -> None:
        try:
            import ray
        except ImportError:
            raise EnvironmentProblem(
                "--ray needs Ray, which is not installed; pip install 'robust-explanation-bench[cluster]'"
            ) from None
        self.ray = ray
        try:
            ray.init(
                address=address, include_dashboard=False if address == LOCAL else None, logging_level=logging.ERROR
            )
        except (Exception, SystemExit) as error:  # by which Ray ends where nobody answers
            hint = "" if AUTH in os.environ else f"; if it wants a token, set {AUTH}=token"
            raise EnvironmentProblem(
                f"--ray {address}: no cluster answers there ({summarise_error(error)}){hint}"
            ) from None
        has_gpu = ray.cluster_resources().get("GPU", 0) > 0
        if device == "cuda" and not has_gpu:
            ray.shutdown()
            raise EnvironmentProblem(f"--ray {address}: no machine of the cluster has a GPU; use --device cpu or auto")
        on_gpu = device != "cpu" and has_gpu
        place = torch.device("cuda" if on_gpu else "cpu")
        self.around = contextlib.ExitStack()
        sign = self.around.enter_context(store.unfinished(uuid.uuid4().hex[:16])).place.absolute()
        data, plugins = data_dir(), catalog.list_plugins()
        self.order = pickle.dumps(
            Order(
                catalog.without,
                plugins,
                data and data.absolute(),
                store.root.absolute(),
                place,
                threads=1,
                shares=sharing > 1,
                sign=sign,
            )
        )
        options: dict[str, Any] = {"num_gpus": 1 / sharing, "max_calls": CALLS} if on_gpu else {"num_cpus": 1 / sharing}
        self.remote = ray.remote(max_retries=RETRIES, **options)(compute)
        self.counts: Any = ray.remote(num_cpus=0)(Counts).remote()
        self.looked, self.known = -math.inf, dict[str, Count]()
        self.running: dict[Any, Task] = {}

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(Exception):  # of a cluster that is gone
            for reference in self.running:
                self.ray.cancel(reference, force=True)
        self.ray.shutdown()
        self.around.close()

    def has_room(self) -> bool:
        return len(self.running) < WAITING

    def start(self, task: Task) -> None:
        order = pickle.dumps((task.name, task.key, task.cell))
        reference = self.remote.remote(self.order, self.counts, task.key, order)
        self.running[reference] = task

    def wait(self, seconds: float | None) -> list[Ended]:
        done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=seconds)
        ended: list[Ended] = []
        for reference in done:
            task = self.running.pop(reference)
            try:
                told = self.ray.get(reference)
            except self.ray.exceptions.RayTaskError as error:  # raised by the suite itself, in the worker
                raise error.as_instanceof_cause() from None
            except self.ray.exceptions.RayError as error:
                ended.append((task, CellFailed(f"its worker ended, {RETRIES + 1} times in all ({quote_error(error)})")))
                continue
            if told[0] == "stopped":
                raise ERRORS[told[1]](told[2])
            ended.append((task, as_error(told)))
        return ended

    def find_count(self, task: Task) -> Count | None:
        now = time.monotonic()
        if now - self.looked >= TELLING:
            self.looked = now
            with contextlib.suppress(Exception):  # of a cluster that is gone, which `wait` says
                told: dict[str, Count] = self.ray.get(self.counts.read.remote(), timeout=PATIENCE)
                self.known = {key: count.moved(now) for key, count in told.items()}
        return self.known.get(task.key)
