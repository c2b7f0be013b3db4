"""Computes tasks: in this process, or in processes of their own."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from bench.boards import RECORD as RECORD_FILE, VALUES, Record
from bench.components import data_dir, freeze_files, use_data_dir
from bench.engine import phases
from bench.engine.bars import Count, find_count, tqdm
from bench.engine.catalog import Catalog, load
from bench.engine.cells import Cell
from bench.engine.evidence import VOCABULARY
from bench.engine.graph import Graph, Memory
from bench.engine.locks import Busy
from bench.engine.scoring import compute_record
from bench.engine.shared import Shared, Spoiled
from bench.engine.store import Store
from bench.engine.tasks import RECORD, Ended, Task
from bench.engine.training import products_in
from bench.errors import BadValue, BenchError, CellFailed, EnvironmentProblem, StoreError, explain_failure, quote_error

PATIENCE = 5.0  # seconds that a process has to end by itself
TELLING = 10.0  # seconds from one word of a process about how far it is to the next
ERRORS = {cls.__name__: cls for cls in (StoreError, EnvironmentProblem, CellFailed)}


class Here:
    """Computes tasks in this process, each as it is taken."""

    is_wide = False

    def __init__(self, catalog: Catalog, store: Store, device: torch.device) -> None:
        self.catalog, self.store, self.device = catalog, store, device
        self.shared = Shared(catalog.library)
        self.memory = Memory(self.shared, hurries=True)
        self.graph: Graph | None = None
        self.ended: list[Ended] = []

    def has_room(self) -> bool:
        return not self.ended

    def start(self, task: Task) -> None:
        self.ended.append((task, self.compute(task.name, task.key, task.cell)))

    def wait(self, seconds: float | None) -> list[Ended]:
        ended, self.ended = self.ended, []
        return ended

    def find_count(self, task: Task) -> Count | None:
        return find_count()

    @products_in("float32")
    @freeze_files()
    def compute(self, name: str, key: str, cell: Cell) -> Exception | None:
        """Compute a value of a cell's case, or its record; return what it failed with. Raises StoreError."""
        if self.graph is None or self.graph.case != cell.case:
            self.graph = Graph(VOCABULARY, cell.case, self.store, self.device, self.memory)
            self.memory.keep(self.graph.spec(value) for value in VOCABULARY.values)
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is data, whatever a plugin prints
                if name == RECORD:
                    self._record(key, cell, self.graph)
                else:
                    self.graph.get(name)
        except StoreError:
            raise
        except Exception as error:
            return error
        return None

    def _record(self, key: str, cell: Cell, graph: Graph) -> None:
        with self.store.unfinished(key) as unfinished:
            record = None
            if not self.store.has("record", key):  # another process may have finished it just now
                record = compute_record(cell, graph, self.catalog)
            unfinished.discard()
        if record is not None:
            self._notify(record)

    def _notify(self, record: Record) -> None:
        """Call the plugins' hook for a new record, which is stored already: a failing hook costs nothing."""
        hook = self.catalog.hooks.hook.bench_recorded
        if not hook.get_hookimpls():
            return
        try:
            # A copy: its fields are dictionaries.
            self.shared.call("the hook bench_recorded", lambda: hook(record=Record.parse(record.line())))
        except Spoiled:  # every later cell says so
            pass
        except Exception as error:
            self.store.warn(f"the hook bench_recorded failed ({explain_failure(error)}); the record is kept")


def read_record(store: Store, cell: Cell) -> Record | None:
    """The stored record of a cell, or None."""
    files = store.read("record", cell.key, (RECORD_FILE, VALUES))
    try:
        return Record.parse(files[RECORD_FILE]) if files else None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        store.reject("record", cell.key, quote_error(error))
        return None


@dataclass(frozen=True)
class Order:
    """What a process is told at its start. `shares`: whether its device, or its cores, are others' as well. `sign`: a
    place in the store that is there during the run, by which another machine sees that the store is the same."""

    without: tuple[str, ...]
    plugins: tuple[str, ...]
    data: Path | None
    root: Path
    device: torch.device
    threads: int
    shares: bool
    sign: Path | None = None


@dataclass(eq=False)
class _Worker:
    """A process. `task` is what it computes, `since` when it began, None where it is still loading plugins; `count` is
    how far it was when it last said so."""

    process: Any
    connection: Connection
    place: int
    task: Task
    since: float | None = None
    count: Count | None = None


class Processes:
    """Computes tasks in spawned processes, which may be ended from outside.

    A task fails where it takes longer than `timeout` seconds, or where its process ends more often than `retries`
    times. concurrent.futures does neither: a process that ends takes the others with it.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        device: torch.device,
        jobs: int = 1,
        sharing: int = 1,
        timeout: float | None = None,
        retries: int = 0,
    ) -> None:
        units = divide(device, jobs, sharing)
        self.gpus = units if device.type == "cuda" else []
        threads = max(1, torch.get_num_threads() // jobs)
        self.order = Order(
            catalog.without, catalog.list_plugins(), data_dir(), store.root, device, threads, jobs > len(units)
        )
        self.jobs, self.timeout, self.retries = jobs, timeout, retries
        self.idle: list[_Worker] = []
        self.working: list[_Worker] = []
        self.ends: dict[str, int] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        workers = self.idle + self.working
        for worker in workers:
            worker.connection.close()
        if isinstance(sys.exception(), KeyboardInterrupt):  # which reaches the other processes too
            until = time.monotonic() + PATIENCE
            for worker in workers:
                worker.process.join(max(0.0, until - time.monotonic()))
        for worker in workers:
            worker.process.kill()
            worker.process.join()

    @property
    def is_wide(self) -> bool:
        return self.jobs > 1

    def has_room(self) -> bool:
        return len(self.working) < self.jobs

    def start(self, task: Task) -> None:
        order = pickle.dumps((task.name, task.key, task.cell))
        while self.idle:
            worker = self.idle.pop()
            worker.task, worker.since, worker.count = task, time.monotonic(), None
            self.working.append(worker)
            try:
                worker.connection.send_bytes(order)
            except OSError:  # somebody has ended it
                self._remove(worker)
            else:
                return
        worker = self._begin(task)
        self.working.append(worker)
        with contextlib.suppress(OSError):  # `wait` says so
            worker.connection.send_bytes(order)

    def _begin(self, task: Task) -> _Worker:
        """Start a process."""
        place = min(set(range(self.jobs)) - {worker.place for worker in self.idle + self.working})
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=serve, args=(there, self.order))
        with _visible(self.gpus[place % len(self.gpus)] if self.gpus else None):
            process.start()
        there.close()
        return _Worker(process, here, place, task)

    def wait(self, seconds: float | None) -> list[Ended]:
        ended: list[Ended] = []
        until = None if seconds is None else time.monotonic() + seconds
        while not ended:
            limits = [w.since + self.timeout for w in self.working if self.timeout and w.since is not None]
            limits += [] if until is None else [until]
            ready = wait(
                [w.connection for w in self.working], max(0.0, min(limits) - time.monotonic()) if limits else None
            )
            for worker in list(self.working):
                if worker.connection in ready:
                    ended += self._hear(worker)
                elif self.timeout and worker.since is not None and time.monotonic() >= worker.since + self.timeout:
                    self._remove(worker)
                    ended.append((worker.task, CellFailed(f"it took longer than {self.timeout:g} s; raise --timeout")))
            if until is not None and time.monotonic() >= until:
                break
        return ended

    def find_count(self, task: Task) -> Count | None:
        return next((worker.count for worker in self.working if worker.task is task), None)

    def _hear(self, worker: _Worker) -> list[Ended]:
        """What a process tells."""
        try:
            what, *told = worker.connection.recv()
        except (EOFError, OSError):  # also in the middle of a word
            return self._bury(worker)
        if what == "ready":
            worker.since = time.monotonic()
            return []
        if what == "count":
            (worker.count,) = told
            return []
        if what == "stopped":
            raise ERRORS[told[0]](told[1])
        if what == "spoiled":  # the next task gets another process
            self._remove(worker)
        else:
            self.working.remove(worker)
            self.idle.append(worker)
        return [(worker.task, as_error((what, *told)))]

    def _bury(self, worker: _Worker) -> list[Ended]:
        """Decide on the task of a process that has ended: it is tried again, or fails."""
        worker.process.join(PATIENCE)
        why = f"its process ended {_describe_end(worker.process.exitcode)}, perhaps by a component"
        self._remove(worker)
        if worker.since is None:
            raise EnvironmentProblem(f"no cell could be computed: {why}")
        task = worker.task
        self.ends[task.key] = self.ends.get(task.key, 0) + 1
        if self.ends[task.key] > self.retries:
            return [(task, CellFailed(why))]
        self.start(task)
        return []

    def _remove(self, worker: _Worker) -> None:
        self.working.remove(worker)
        worker.connection.close()
        worker.process.kill()
        worker.process.join()


def divide(device: torch.device, jobs: int, sharing: int) -> list[str]:
    """The GPUs, or the cores, of so many jobs. Raises BadValue where more than `sharing` of them would share one."""
    if device.type == "cuda":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        units = visible.split(",") if visible else [str(n) for n in range(torch.cuda.device_count())]
        what = "GPU"
    else:
        units = [str(n) for n in sorted(os.sched_getaffinity(0))]
        what = "core"
    if jobs > len(units) * sharing:
        count = "is 1" if len(units) == 1 else f"are {len(units)}"
        raise BadValue(
            f"--jobs {jobs}: there {count} {what}{'s' * (len(units) > 1)}, and times are a result only where a job has "
            f"one for itself; lower it, or add --share {-(-jobs // len(units))}"
        )
    return units


@contextlib.contextmanager
def _visible(gpu: str | None) -> Iterator[None]:
    """Has processes that start inside see one GPU alone."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        yield
    finally:
        if gpu is not None:
            os.environ.pop("CUDA_VISIBLE_DEVICES")
        if gpu is not None and before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def _describe_end(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"by {signal.Signals(-code).name}"
    return f"with exit code {code}"


class _NoTerminal(io.TextIOWrapper):
    """A stream on which progress bars stay away: they belong to the process that has the terminal."""

    def isatty(self) -> bool:
        return False


def open_worker(order: Order) -> Here:
    """Make this process ready for tasks. Raises EnvironmentProblem where it lacks a plugin, or sees another store."""
    if order.sign and not order.sign.exists():
        raise EnvironmentProblem(
            f"worker {os.uname().nodename} does not see the store {order.root} of this run; mount it there at this "
            "path, or name a place that all machines share with --store"
        )
    torch.set_num_threads(order.threads)
    phases.share_device(order.shares)
    catalog = load(order.without, absent=True)
    catalog.require_whole()
    missing = sorted(set(order.plugins) - set(catalog.list_plugins()))
    if missing:
        raise EnvironmentProblem(
            f"worker {os.uname().nodename} lacks the plugin {missing[0]}; install it there, or leave it out with "
            f"--without {missing[0].rpartition(' ')[0]}"
        )
    return Here(catalog, Store(order.root, lambda text: tqdm.write(f"bench: {text}", file=sys.stderr)), order.device)


def answer(executor: Here, order: bytes) -> tuple[str, ...]:
    """Compute a task, and say in words how it ended. It comes pickled from the process that started this one: its
    classes are there once the plugins are loaded."""
    try:
        error = executor.compute(*pickle.loads(order))
    except StoreError as problem:
        return "stopped", name_error(problem), str(problem)
    if error is None:
        return ("done",)
    if isinstance(error, Busy):
        return "busy", error.key
    return "spoiled" if isinstance(error, Spoiled) else "failed", name_error(error), explain_failure(error)


def as_error(told: tuple[str, ...]) -> Exception | None:
    """What `answer` says, as an error."""
    if told[0] == "done":
        return None
    return Busy(told[1]) if told[0] == "busy" else ERRORS[told[1]](told[2])


def serve(connection: Connection, order: Order) -> None:
    """The other process: compute tasks until the first one ends."""
    sys.stderr = _NoTerminal(os.fdopen(os.dup(2), "wb", 0), write_through=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # tqdm's own lock is a semaphore of the system, which nobody removes when this process is killed.
    tqdm.set_lock(threading.RLock())
    speaking = threading.Lock()
    try:
        with use_data_dir(order.data):
            executor = open_worker(order)
            connection.send(("ready",))
            threading.Thread(target=_tell_counts, args=(connection, speaking), daemon=True).start()
            while True:
                told = answer(executor, connection.recv_bytes())
                with speaking:
                    connection.send(told)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass
    except BenchError as error:
        connection.send(("stopped", name_error(error), str(error)))


def _tell_counts(connection: Connection, speaking: threading.Lock) -> None:
    """Say at times how far a task is; nothing between two tasks, when there is no count."""
    with contextlib.suppress(OSError):  # the first process has ended
        while True:
            time.sleep(TELLING)
            with speaking:
                if count := find_count():
                    connection.send(("count", count))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def name_error(error: Any) -> str:
    """The name of the error class, among those that the other side knows."""
    return next((name for name, cls in ERRORS.items() if isinstance(error, cls)), "CellFailed")
