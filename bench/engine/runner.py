"""Cases and metrics to records: what is there is read, what is missing computed, what fails does not stop the rest."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from bench.boards.record import RECORD, VALUES, VERSION, Record, reproducing, summarise, values_file
from bench.components.base import Component, settled
from bench.components.case import AXES, Case
from bench.components.files import data_from
from bench.components.kinds import Levels, Metric, Undefined
from bench.engine.catalog import Catalog, installed
from bench.engine.evidence import VOCABULARY, defenses_in
from bench.engine.graph import Graph, Memory, differences, wanted
from bench.engine.selection import request
from bench.engine.store import Store, key
from bench.engine.training import products_in, seeded
from bench.errors import (
    BadComponent,
    BadValue,
    BenchError,
    CellFailed,
    EnvironmentProblem,
    PluginError,
    StoreError,
    short,
)

DISTRIBUTION = "robust-explanation-bench"
GRADIENT_ERROR = (
    0.001  # by which an attack's gradient may differ from finite differences before its records are flagged
)


@dataclass(frozen=True)
class Cell:
    """One metric of one case. Cases that differ only along axes that the metric does not reach share the key."""

    case: Case
    metric: Metric
    spec: str
    refused: str | None

    @property
    def key(self) -> str:
        return key(self.spec)

    @property
    def names(self) -> tuple[str, ...]:
        return wanted(type(self.metric).__call__)

    @property
    def axes(self) -> frozenset[str]:
        return VOCABULARY.reach(self.names)[0]

    @property
    def attacked(self) -> bool:
        return "attack" in self.axes

    def __str__(self) -> str:
        shown = (a for a in ("dataset", "model", "defense", "explainer", "attack", "ball", "seed") if a in self.axes)
        return f"{self.metric} of " + ", ".join(f"{axis} {getattr(self.case, axis)}" for axis in shown)


@dataclass
class Outcome:
    """Records and failures by key, and the cells they belong to."""

    cells: list[Cell]
    records: dict[str, Record] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        if any(isinstance(error, EnvironmentProblem) for error in self.failures.values()):
            return EnvironmentProblem.exit_code
        return CellFailed.exit_code if self.failures else 0


@settled()
def cells(catalog: Catalog, cases: Iterable[Case], metrics: Sequence[Metric]) -> list[Cell]:
    """Every metric of every case, refused or not."""
    return [_cell(catalog, case, metric) for case in cases for metric in metrics]


def _cell(catalog: Catalog, case: Case, metric: Metric) -> Cell:
    names = wanted(type(metric).__call__)
    axes, _ = VOCABULARY.reach(names)
    used = {**{a: c for a, c in case.components.items() if a in axes}, "metric": metric}
    refused = _refused(catalog, case, used)
    made = f"record@{VERSION}/{metric.identity}"
    # A record under attack also says what it is over the images whose prediction is kept.
    whole = (*names, "kept") if "attack" in axes else names
    return Cell(case, metric, VOCABULARY.spec(made, whole, case), refused)


def _refused(catalog: Catalog, case: Case, used: dict[str, Component]) -> str | None:
    asked = ""
    try:
        for component in used.values():
            asked = f"refuse of {component.kind} {component.name}"
            why = component.refuse(case)
            if why:
                return f"{component.kind} {component.name}: {why}"
        along = VOCABULARY.reach(wanted(type(used["metric"]).__call__))[1]
        asks = along | ({"labels"} if "targets" in along and case.target == "label" else set())
        for name in ("labels", "object_masks", "gaze"):
            if name in asks and name not in case.dataset.provides:
                what = name.replace("_", " ")
                return f"metric {used['metric'].name}: dataset {case.dataset} has no {what}"
        if "refit" in along:
            for defense in (case.defense, *defenses_in(case.defense)):
                if not defense.trains:
                    return f"metric {used['metric'].name}: it trains again on other data, which {defense.name} cannot"
        asked = "the hook bench_refuse"
        return catalog.hooks.hook.bench_refuse(case=case, used=used)
    except Exception as error:
        raise PluginError(f"{asked} failed ({short(error)})") from error


def _tell(catalog: Catalog, store: Store, record: Record) -> None:
    """Tell plugins of a new record; it is stored already, so that one that fails there costs nothing."""
    try:
        catalog.hooks.hook.bench_recorded(record=record)
    except Exception as error:
        store.warn(f"the hook bench_recorded failed ({short(error)}); the record is kept")


def stored_record(store: Store, cell: Cell) -> Record | None:
    files = store.read("record", cell.key, (RECORD,))
    return Record.parse(files[RECORD]) if files else None


def stale(cell: Cell, records: Iterable[Record], form: Callable[[Any], str] = str) -> list[str]:
    """Where records are of the cell by their texts and not by their key: what has moved since, for each."""
    metric, axes = form(cell.metric), described(cell, form)
    return [
        "; ".join(differences(record.spec, cell.spec))
        for record in records
        if (record.metric, record.axes) == (metric, axes) and record.key != cell.key
    ]


def described(cell: Cell, form: Callable[[Any], str] = str) -> dict[str, str]:
    """The axes that a cell reaches, as text."""
    return {axis: form(getattr(cell.case, axis)) for axis in AXES if axis in cell.axes}


def records_in(store: Store) -> list[Record]:
    """All records of a store that can be read as such."""
    found = []
    for folder in store.entries("record"):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            found.append(Record.parse((folder / RECORD).read_bytes()))
    return found


@products_in("float32")
@settled()
def run_cells(todo: list[Cell], catalog: Catalog, store: Store, device: torch.device) -> Outcome:
    """Read or compute every cell that is not refused. Raises StoreError where results can no longer be kept."""
    outcome = Outcome(todo)
    memory = Memory()
    earlier: list[Record] = []
    told: set[Metric] = set()
    writable, graph = False, None
    with tqdm(total=len({c.key for c in todo}), desc="cells", unit="cell", disable=None, leave=False, delay=1) as bar:
        for cell in todo:
            if cell.refused or cell.key in outcome.records or cell.key in outcome.failures:
                continue
            record = stored_record(store, cell)
            if record is None:
                if not writable:
                    store.check_writable()
                    writable = True
                    earlier = records_in(store)
                for moved in stale(cell, earlier)[:1]:
                    if cell.metric not in told:  # a line a metric: what moved has mostly moved for all of its cells
                        store.warn(f"the stored {cell} is stale ({moved}); computed again, as all that are")
                        told.add(cell.metric)
                if graph is None or graph.case != cell.case:
                    graph = Graph(VOCABULARY, cell.case, store, device, memory)
                    memory.keep(graph.spec(name) for name in VOCABULARY.values)
                try:
                    with contextlib.redirect_stdout(sys.stderr):  # stdout is data, whatever a plugin prints
                        record = computed(cell, graph, catalog)
                except StoreError:
                    raise
                except Exception as error:
                    outcome.failures[cell.key] = error
                else:
                    _tell(catalog, store, record)
            if record is not None:
                outcome.records[cell.key] = record
            bar.update()
    return outcome


def reason(error: Exception) -> str:
    """Why a cell failed, in one line."""
    return str(error) if isinstance(error, BenchError) else short(error)


def computed(cell: Cell, graph: Graph, catalog: Catalog) -> Record:
    """Compute one cell, and store its record and per-image values."""
    # First, so that a set that is too small says so before anything is trained.
    data = graph.get("test_data") if "test_data" in VOCABULARY.reach(cell.names)[1] else None
    # Copies: a metric that works in place must not reach what is stored from the same tensors.
    found = {name: graph.get(name) for name in cell.names}
    evidence = {name: value.clone() if isinstance(value, Tensor) else value for name, value in found.items()}
    refit = evidence.get("refit")
    if refit is not None:
        evidence["refit"] = refit = dataclasses.replace(refit, asked=functools.partial(_refit_spec, cell), log=[])
    with seeded(cell.case.seed if "seed" in cell.axes else 0, cell.metric.identity), torch.no_grad():
        score = cell.metric(**evidence)
    kept = graph.get("kept").cpu().numpy() if cell.attacked and isinstance(score, Tensor | Levels) else None
    cost = {name: sum(p["seconds"] for p in graph.cost(name)) for name in graph.stored(cell.names)}
    if refit is not None:
        cost["refit"] = sum(phase.seconds for phase in refit.log)
    names, values = _per_image(cell.metric, score, None if data is None else len(data))
    summary = summarise(values, names, kept, cell.key)
    record = Record(
        metric=str(cell.metric),
        axes=described(cell),
        value=summary.value,
        value_kept=summary.value_kept,
        n=summary.n,
        kept=summary.kept,
        undefined=summary.undefined,
        ci95=summary.ci95,
        levels=summary.levels,
        better=cell.metric.better,
        unit=cell.metric.unit,
        help=cell.metric.help,
        cost=cost,
        flags=_flags(cell, graph),
        paper=cell.metric.paper.bibtex if cell.metric.paper else "",
        command=command(cell),
        key=cell.key,
        spec=cell.spec,
        undefined_because=score.reason if isinstance(score, Undefined) else "",
        objective=_objective(graph) if cell.attacked else {},
        provenance=provenance(cell, catalog, graph.device) | ({"data": data.note} if data and data.note else {}),
    )
    rows = data.indices.numpy() if data is not None and len(data) == len(values) else np.full(len(values), -1)
    graph.store.write(
        "record", cell.key, {RECORD: record.line().encode(), VALUES: values_file(cell.key, rows, names, values, kept)}
    )
    return record


def _refit_spec(cell: Cell, name: str, using: tuple[str, ...] | None) -> str:
    """The spec of what a cell's metric trains under a name, on data that follow from some evidence."""
    # Trained in the same way: what moves the weights of the case moves these.
    names = ("trained", *(cell.names if using is None else ("refit", *using)))
    return VOCABULARY.spec(f"refit/{cell.metric.identity}/{name}", names, cell.case)


def _per_image(metric: Metric, score: Any, count: int | None) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of levels and values (N, L) of whatever a metric returned; one row for a scalar, none where undefined."""
    if isinstance(score, Undefined):
        return ("",), np.empty((0, 1))
    if isinstance(score, Levels):
        names, values = score.names, score.values
        fits = values.ndim == 2 and values.shape[1] == len(names)
    elif isinstance(score, Tensor):
        names, values = ("",), score[:, None] if score.ndim == 1 else score.reshape(1, -1)
        fits = score.ndim == 1
    elif isinstance(score, int | float):
        names, values, fits, count = ("",), torch.tensor([[float(score)]]), True, None
    else:
        raise BadComponent(
            f"metric {metric} returned a {type(score).__name__}; see bench.Metric for what it may return"
        )
    if not fits or (count is not None and len(values) != count):
        form = f"({count},)" if isinstance(score, Tensor) else f"({count}, {len(names)})"
        raise BadComponent(
            f"metric {metric} returned {tuple(score.shape if isinstance(score, Tensor) else values.shape)} for {count} "
            f"images; return {form}, or a float where there is one number for all"
        )
    found = values.detach().double().cpu().numpy()
    if np.isinf(found).any():
        raise BadComponent(f"metric {metric} returned infinite values; use nan where it is undefined")
    return tuple(names), found


def _flags(cell: Cell, graph: Graph) -> tuple[str, ...]:
    flags = []
    if cell.attacked:
        run = graph.get("attack_run")
        if cell.case.ball.eps > 0 and torch.equal(run["images"], graph.get("images")):
            flags.append("nothing moved")
        error = float(run["gradient_error"].median()) if "gradient_error" in run else 0.0
        if not error <= GRADIENT_ERROR:  # nan fails as well
            off = "it could not be made" if math.isnan(error) else f"off by {error:.1%}"
            flags.append(f"gradient check failed: {off}")
        follows = "after" in run and cell.case.attack.beta is not None  # the gradient of maps, not of a class alone
        if "explainer" in cell.axes and follows and cell.case.surrogate != cell.case.explainer:
            flags.append(f"transfer: the attack followed {cell.case.surrogate}")
    return tuple(flags)


def _objective(graph: Graph) -> dict[str, float]:
    """Of an attack that follows a gradient of maps: means over images, and the share of those on which it fell."""
    run = graph.get("attack_run")
    if "after" not in run or graph.case.attack.beta is None:
        return {}
    means = {"before": run["before"], "after": run["after"], "success": graph.get("attack_success")}
    return {name: float(values.double().mean()) for name, values in means.items()}


def published_text(choice: Any) -> str:
    """The text of an axis's choice in what is published."""
    return choice.published if isinstance(choice, Component) else str(choice)


def published(cell: Cell, record: Record) -> Record:
    """A record as it is published: without a path of this machine, and with the papers of what its row is made of."""
    used = [c for axis, c in cell.case.components.items() if axis in cell.axes and axis != "surrogate" and c.paper]
    papers = {f"{c.kind} {c.name}": c.paper.bibtex for c in used}
    return dataclasses.replace(
        record,
        flags=tuple(flag.replace(str(cell.case.surrogate), cell.case.surrogate.published) for flag in record.flags),
        metric=cell.metric.published,
        axes=described(cell, published_text),
        command=command(cell, published_text),
        provenance=record.provenance | ({"papers": papers} if papers else {}),
    )


def command(cell: Cell, form: Callable[[Any], str] = str) -> str:
    """The command that gives this record: every axis that it reaches, in full."""
    return reproducing(form(cell.metric), described(cell, form))


def provenance(cell: Cell, catalog: Catalog, device: torch.device) -> dict[str, Any]:
    """Where and with what a record was made. Names no person and no machine."""
    used: list[Component] = [*(c for a, c in cell.case.components.items() if a in cell.axes), cell.metric]
    sources = {f"{c.kind} {c.name}": catalog.sources[type(c)] for c in used if type(c) in catalog.sources}
    return {
        **_machine(device),
        "plugins": {name: f"{plugin.distribution} {plugin.version}" for name, plugin in sources.items()},
    }


@functools.cache
def _machine(device: torch.device) -> dict[str, Any]:
    return {
        "bench": importlib.metadata.version(DISTRIBUTION),
        "commit": _commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
    }


def _commit() -> str:
    """The commit of the checkout that this code runs from, "" for an installed one."""
    top = Path(__file__).parents[2]
    if not (top / ".git").exists():
        return ""
    try:
        found = subprocess.run(
            ["git", "-C", str(top), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return found.stdout.strip()


def open_store(path: str | Path | None, warn: Callable[[str], None]) -> Store:
    """The store at a path, else at BENCH_STORE, else in the user's cache folder."""
    chosen = path or os.environ.get("BENCH_STORE") or Path.home() / ".cache" / DISTRIBUTION
    return Store(Path(chosen).expanduser(), warn)


def choose_device(name: str) -> torch.device:
    """auto: a GPU where there is one."""
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
    """Run from Python what `bench run` runs: options by name, one value or a list, as texts or components.

    Returns the records, each once. Raises CellFailed, its `records` those that are done, where a cell failed.
    """
    catalog = installed()
    given = {option: value if isinstance(value, list | tuple) else [value] for option, value in options.items()}
    with data_from(data_dir):
        asked = request(catalog, given, reference)
        todo = cells(catalog, asked.cases, asked.metrics)
        place = open_store(store, lambda text: tqdm.write(text, file=sys.stderr))
        outcome = run_cells(todo, catalog, place, choose_device(device))
    records = list(outcome.records.values())
    if outcome.failures:
        about = {c.key: c for c in todo}
        text = "; ".join(f"{about[k]}: {reason(e)}" for k, e in outcome.failures.items())
        raise CellFailed(text, records)
    return records
