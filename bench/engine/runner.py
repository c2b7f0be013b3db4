"""Runs cells: reads stored records, computes missing ones, and goes on past failures."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bench.boards import RECORD, Record
from bench.components import Component, Metric, freeze_files
from bench.engine.catalog import DISTRIBUTION, Catalog, installed
from bench.engine.cells import Cell, group_by_text
from bench.engine.executors import Here, read_record
from bench.engine.progress import Progress
from bench.engine.store import Store
from bench.engine.tasks import Executor, Task, list_tasks, perform
from bench.errors import BadValue, BenchError, CellFailed, EnvironmentProblem, StoreError
from bench.zoo import MADE, list_networks


@dataclass
class Outcome:
    """Records and failures by key, and the cells that they belong to."""

    cells: list[Cell]
    records: dict[str, Record] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        if any(isinstance(error, EnvironmentProblem) for error in self.failures.values()):
            return EnvironmentProblem.exit_code
        return CellFailed.exit_code if self.failures else 0


@freeze_files()
def run_cells(
    cells: list[Cell], catalog: Catalog, store: Store, device: torch.device, executor: Executor | None = None
) -> Outcome:
    """Read or compute every cell that is not refused, in this process unless an executor is given.

    Several processes may share the work of one store. Raises StoreError where results can no longer be kept.
    """
    outcome = Outcome(cells)
    distinct = {cell.key: cell for cell in cells if not cell.refusal}
    with Progress(len(distinct)) as progress:
        todo = []
        for cell in distinct.values():
            if record := read_record(store, cell):
                outcome.records[cell.key] = record
                progress.count(cell.key)
            else:
                todo.append(cell)
        if todo:
            store.check_writable()
            _tell_stale(todo, store)
            tasks = list_tasks(todo, store)
            _tell_zoo(tasks, store)
            for task, error in perform(tasks, progress.watch(executor or Here(catalog, store, device), tasks), store):
                record = read_record(store, task.cell) if error is None else None
                if record is not None:
                    outcome.records[task.key] = record
                else:
                    gone = StoreError(f"stored record {task.key} disappeared during the run; run it again")
                    outcome.failures[task.key] = error or gone
                progress.count(task.key, failed=record is None)
    outcome.records = {key: outcome.records[key] for key in distinct if key in outcome.records}
    outcome.failures = {key: outcome.failures[key] for key in distinct if key in outcome.failures}
    return outcome


def _tell_stale(cells: list[Cell], store: Store) -> None:
    """Warn of records that were made otherwise than they would be now."""
    earlier = group_by_text(read_records(store))
    told: set[Metric] = set()
    for cell in cells:
        if earlier and cell.metric not in told:  # once a metric: mostly the same has changed for all of its cells
            for change in list(cell.find_stale(earlier).values())[:1]:
                store.warn(f"the stored {cell} is stale ({change}); computing it and others like it again")
                told.add(cell.metric)


def _tell_zoo(tasks: list[Task], store: Store) -> None:
    """Say which networks that are about to be trained the zoo has."""
    keys = {task.key for task in tasks if task.name == MADE}
    with contextlib.suppress(BenchError):  # of an index that this run does not need
        for network in list_networks():
            if network.key in keys:
                store.warn(
                    f"the zoo has {network.name}, which this run trains; with --defense zoo:network={network.name} "
                    "a run takes it from there"
                )


def read_records(store: Store) -> list[Record]:
    """All records of a store that are whole."""
    records = []
    for folder in store.list_folders("record"):
        files = store.look("record", folder.name, (RECORD,))
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            records += [Record.parse(files[RECORD])] if files else []
    return records


def open_store(path: str | Path | None, warn: Callable[[str], None]) -> Store:
    """The store at a path, else at BENCH_STORE, else in the user's cache folder."""
    chosen = path or os.environ.get("BENCH_STORE") or Path("~/.cache") / DISTRIBUTION
    try:
        return Store(Path(chosen).expanduser(), warn)
    except RuntimeError:
        raise StoreError(
            f"store {chosen}: this user has no home folder; name another place with --store or BENCH_STORE"
        ) from None


def choose_device(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU where there is one."""
    if name not in ("auto", "cpu", "cuda"):
        raise BadValue(f"device {name!r}: choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise EnvironmentProblem("device cuda: torch finds no GPU here; choose the device cpu or auto")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def component(kind: str, text: str) -> Component:
    """An installed component from its text form: `component("attack", "topk:k=20")`."""
    return installed().read(kind, text)
