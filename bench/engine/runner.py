"""Runs cells: reads stored records, computes missing ones, and goes on past failures."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bench.boards import RECORD, VALUES, Record
from bench.components import Component, Metric, freeze_files, use_data_dir
from bench.engine.catalog import DISTRIBUTION, Catalog, installed
from bench.engine.cells import Cell, list_cells
from bench.engine.evidence import VOCABULARY
from bench.engine.graph import Graph, Making, Memory
from bench.engine.pretrained import place_networks
from bench.engine.scoring import compute_record
from bench.engine.selection import select
from bench.engine.shared import Shared, Spoiled
from bench.engine.store import Store
from bench.engine.training import products_in
from bench.errors import BadValue, BenchError, CellFailed, EnvironmentProblem, StoreError, quote_error, summarise_error


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


@products_in("float32")
@freeze_files()
def run_cells(
    cells: list[Cell],
    catalog: Catalog,
    store: Store,
    device: torch.device,
    begin: Callable[[Cell], object] = lambda cell: None,
    making: Making = contextlib.nullcontext,
    failures: Mapping[str, Exception] | None = None,
) -> Outcome:
    """Read or compute every cell that is not refused. Raises StoreError where results can no longer be kept.

    `begin(cell)` is called before a cell is computed, and `making(spec)` surrounds the computation of each value.
    `failures` are those of earlier runs, by spec, which are not tried again.
    """
    outcome = Outcome(cells)
    shared = Shared(catalog.library)
    memory = Memory(shared, making, failures)
    earlier: list[Record] = []
    reported: set[Metric] = set()
    is_writable, graph = False, None
    total = len({cell.key for cell in cells})
    with tqdm(total=total, desc="cells", unit="cell", disable=None, leave=False, delay=1) as bar:
        for cell in cells:
            if cell.refusal or cell.key in outcome.records or cell.key in outcome.failures:
                continue
            record = read_record(store, cell)
            if record is None:
                if not is_writable:
                    store.check_writable()
                    is_writable = True
                    earlier = read_records(store)
                for change in cell.find_stale(earlier)[:1]:
                    if cell.metric not in reported:  # once a metric: mostly the same has changed for all of its cells
                        store.warn(f"the stored {cell} is stale ({change}); computing it and others like it again")
                        reported.add(cell.metric)
                if graph is None or graph.case != cell.case:
                    graph = Graph(VOCABULARY, cell.case, store, device, memory)
                    memory.keep(graph.spec(name) for name in VOCABULARY.values)
                begin(cell)
                try:
                    with contextlib.redirect_stdout(sys.stderr):  # stdout is data, whatever a plugin prints
                        record = compute_record(cell, graph, catalog)
                except StoreError:
                    raise
                except Exception as error:
                    outcome.failures[cell.key] = error
                else:
                    _notify(catalog, store, shared, record)
            if record is not None:
                outcome.records[cell.key] = record
            bar.update()
    return outcome


def _notify(catalog: Catalog, store: Store, shared: Shared, record: Record) -> None:
    """Call the plugins' hook for a new record, which is stored already: a failing hook costs nothing."""
    hook = catalog.hooks.hook.bench_recorded
    if not hook.get_hookimpls():
        return
    try:
        # A copy: its fields are dictionaries.
        shared.call("the hook bench_recorded", lambda: hook(record=Record.parse(record.line())))
    except Spoiled:  # every later cell says so
        pass
    except Exception as error:
        store.warn(f"the hook bench_recorded failed ({explain_failure(error)}); the record is kept")


def explain_failure(error: Exception) -> str:
    """Why a cell failed, in one line."""
    return str(error) if isinstance(error, BenchError) else summarise_error(error)


def read_record(store: Store, cell: Cell) -> Record | None:
    """The stored record of a cell, or None."""
    files = store.read("record", cell.key, (RECORD, VALUES))
    try:
        return Record.parse(files[RECORD]) if files else None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        store.reject("record", cell.key, quote_error(error))
        return None


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
        raise EnvironmentProblem("device cuda: torch finds no GPU here; use --device cpu or auto")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def component(kind: str, text: str) -> Component:
    """An installed component from its text form: `component("attack", "topk:k=20")`."""
    return installed().read(kind, text)


def run(
    *,
    store: str | Path | None = None,
    data_dir: str | Path | None = None,
    device: str = "auto",
    reference: bool = True,
    **options: Any,
) -> list[Record]:
    """Run from Python what `bench run` runs: options by name, each one value or a list, as texts or components.

    Returns every record once. Raises CellFailed where a cell failed; its `records` are the finished ones.
    """
    catalog = installed()
    given = {option: value if isinstance(value, list | tuple) else [value] for option, value in options.items()}
    with use_data_dir(data_dir):
        selection = select(catalog, given, reference)
        cells = list_cells(catalog, selection.cases, selection.metrics)
        opened = open_store(store, lambda text: tqdm.write(text, file=sys.stderr))
        place_networks(selection.networks, opened, catalog)
        outcome = run_cells(cells, catalog, opened, choose_device(device))
    records = list(outcome.records.values())
    if outcome.failures:
        by_key = {cell.key: cell for cell in cells}
        text = "; ".join(f"{by_key[key]}: {explain_failure(error)}" for key, error in outcome.failures.items())
        raise CellFailed(text, records)
    return records
