"""Runs cells in a process of their own, which may be ended from outside."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bench.components import data_dir, use_data_dir
from bench.engine.catalog import Catalog, load
from bench.engine.cells import Cell
from bench.engine.runner import Outcome, explain_failure, read_record, run_cells
from bench.engine.store import Store
from bench.errors import BenchError, CellFailed, EnvironmentProblem, StoreError

PATIENCE = 5.0  # seconds that a process has to end by itself
ERRORS = {cls.__name__: cls for cls in (StoreError, EnvironmentProblem, CellFailed)}


@dataclass
class _Order:
    """What a process is to do. `cells` are pickled, by the process that started this one: their classes are there once
    the plugins are loaded."""

    cells: bytes
    without: tuple[str, ...]
    data: Path | None
    root: Path
    device: torch.device
    failures: dict[str, str]


def run_isolated(
    cells: list[Cell], catalog: Catalog, store: Store, device: torch.device, timeout: float | None = None
) -> Outcome:
    """`run_cells` in another process. A cell fails if this process ends, or if it takes longer than `timeout` seconds.

    The other cells go on in a new process, and so does the process that asked.
    """
    outcome = Outcome(cells)
    failed: dict[str, str] = {}  # values that ended a process, by spec
    while todo := [cell for cell in cells if cell.key not in outcome.failures]:
        order = _Order(pickle.dumps(todo), catalog.without, data_dir(), store.root, device, failed)
        stopped = _supervise(order, outcome, timeout)
        if stopped is None:
            break
        key, spec, why = stopped
        outcome.failures[key] = CellFailed(why)
        if spec:
            failed[spec] = why
    for cell in cells:
        if not cell.refusal and cell.key not in outcome.failures:
            record = read_record(store, cell)
            if record is not None:
                outcome.records[cell.key] = record
    return outcome


def _supervise(order: _Order, outcome: Outcome, timeout: float | None) -> tuple[str, str, str] | None:
    """Follow one process to its end, and return None.

    If it ends before its work is done: the key of its cell, the spec of the value in the making, and why.
    """
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, order))
    process.start()
    there.close()
    cell, start = "", time.monotonic()
    specs: list[str] = []
    try:
        while True:
            left = None if timeout is None or not cell else max(0.0, start + timeout - time.monotonic())
            if not here.poll(left):
                return cell, specs[-1] if specs else "", f"it took longer than {timeout:g} s; raise --timeout"
            try:
                what, *told = here.recv()
            except EOFError:
                process.join(PATIENCE)
                why = f"its process ended {_describe_end(process.exitcode)}, perhaps by a component"
                if not cell:
                    raise EnvironmentProblem(f"no cell could be computed: {why}") from None
                return cell, specs[-1] if specs else "", why
            if what == "cell":
                cell, specs, start = told[0], [], time.monotonic()
            elif what == "failed":
                outcome.failures[told[0]] = ERRORS[told[1]](told[2])
            elif what == "making":
                specs.append(told[0])
            elif what == "made":
                specs.pop()
            elif what == "stopped":
                raise ERRORS[told[0]](told[1])
            else:
                return None
    finally:
        here.close()
        if isinstance(sys.exception(), KeyboardInterrupt):  # which reaches the other process too
            process.join(PATIENCE)
        process.kill()
        process.join()


def _describe_end(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"by {signal.Signals(-code).name}"
    return f"with exit code {code}"


def _serve(connection: Connection, order: _Order) -> None:
    """The other process."""
    tell = connection.send

    @contextlib.contextmanager
    def making(spec: str) -> Iterator[None]:
        tell(("making", spec))
        try:
            yield
        finally:
            tell(("made", spec))

    def warn(text: str) -> None:
        tqdm.write(f"bench: {text}", file=sys.stderr)

    try:
        with use_data_dir(order.data):
            catalog = load(order.without)
            catalog.require_whole()
            cells = pickle.loads(order.cells)
            failures: dict[str, Exception] = {spec: CellFailed(why) for spec, why in order.failures.items()}
            outcome = run_cells(
                cells,
                catalog,
                Store(order.root, warn),
                order.device,
                lambda cell: tell(("cell", cell.key)),
                making,
                failures,
            )
        for key, error in outcome.failures.items():
            tell(("failed", key, _name(error), explain_failure(error)))
        tell(("done",))
    except BenchError as error:
        tell(("stopped", _name(error), str(error)))


def _name(error: Any) -> str:
    """The name of the error class, among those that the other side knows."""
    return next((name for name, cls in ERRORS.items() if isinstance(error, cls)), "CellFailed")
