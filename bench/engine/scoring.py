"""One cell to its record: the metric's evidence, its score, and what has to be said about it."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.boards import RECORD, VALUES, Record, find_impossible, summarise, values_file
from bench.components import Case, Levels, Metric, Undefined
from bench.engine.alignment import gather
from bench.engine.catalog import Catalog
from bench.engine.cells import Cell, published_text
from bench.engine.checks import UNMOVED, flag_attack, flag_maps
from bench.engine.evidence import VOCABULARY
from bench.engine.graph import Graph
from bench.engine.provenance import provenance
from bench.engine.training import seeded
from bench.errors import BadComponent

GRADIENT_ERROR = 0.001  # relative error of an attack's gradient from which on its records are flagged


def compute_record(cell: Cell, graph: Graph, catalog: Catalog) -> Record:
    """Compute one cell, and store its record and per-image values."""
    # First, so that a set that is too small says so before anything is trained.
    data = graph.get("test_data") if "test_data" in VOCABULARY.reach(cell.names)[1] else None
    evidence: dict[str, Any] = {name: _copy(value) for name, value in gather(graph, cell.names).items()}
    refit = evidence.get("refit")
    if refit is not None:
        evidence["refit"] = refit = refit.for_metric(functools.partial(_refit_spec, cell))

    def compute() -> Any:
        with seeded(cell.case.seed if "seed" in cell.axes else 0, cell.metric.identity), torch.no_grad():
            return cell.metric(**evidence)

    runs = [cell.case.components[axis] for axis in ("explainer", "model") if axis in cell.axes]
    score = graph.call([cell.metric, *runs], compute, cell.names)
    reaches_images = cell.reaches_attack and isinstance(score, Tensor | Levels)
    kept = graph.get("kept").cpu().numpy() if reaches_images else None
    phases = {name: graph.cost(name) for name in graph.stored(cell.names)}
    cost = {name: sum(phase.seconds for phase in found) for name, found in phases.items()}
    shared = ", ".join(name for name, found in phases.items() if any(phase.shared for phase in found))
    if refit is not None:
        cost["refit"] = sum(phase.seconds for phase in refit.log)
    names, scores = _per_image(cell.metric, score, None if data is None else len(data))
    summary = summarise(scores, names, kept, cell.metric.range)
    record = Record(
        metric=str(cell.metric),
        axes=cell.axis_texts(),
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
        flags=tuple(find_flags(graph, cell.axes)) if cell.reaches_attack else (),
        paper=cell.metric.paper.bibtex if cell.metric.paper else "",
        command=cell.command(),
        key=cell.key,
        spec=cell.spec,
        undefined_because=score.reason if isinstance(score, Undefined) else "",
        objective=_objective(graph) if cell.reaches_attack else {},
        range=cell.metric.range,
        grain=cell.metric.grain,
        provenance=provenance(cell, catalog, graph.device)
        | ({"data": data.note} if data and data.note else {})
        | ({"shared": shared} if shared else {}),
    )
    rows = data.rows.numpy() if data is not None and len(data) == len(scores) else np.full(len(scores), -1)
    files = {RECORD: record.line().encode(), VALUES: values_file(cell.key, rows, names, scores, kept)}
    graph.store.write("record", cell.key, files)
    return record


def _copy(value: Any) -> Any:
    """A value with tensors of its own: a metric that works in place must not reach what others are made from."""
    if isinstance(value, Tensor):
        return value.clone()
    return {name: _copy(part) for name, part in value.items()} if isinstance(value, dict) else value


def _refit_spec(cell: Cell, name: str, using: tuple[str, ...] | None) -> str:
    """The spec of what a cell's metric trains under a name, on data that follow from some evidence."""
    # `trained` is on the path: whatever moves the weights of the case moves these as well.
    names = ("trained", *(cell.names if using is None else ("refit", *using)))
    return str(VOCABULARY.spec(f"refit/{cell.metric.identity}/{name}", names, cell.case))


def _per_image(metric: Metric, score: Any, count: int | None) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of levels and values (N, L) of a metric's result; one row for a scalar, none where it is undefined."""
    if isinstance(score, Undefined):
        return ("",), np.empty((0, 1))
    names: tuple[str, ...] = ("",)
    if isinstance(score, Levels):
        names, values = score.names, score.values
        fits = values.ndim == 2 and values.shape[1] == len(names)
    elif isinstance(score, Tensor):
        values, fits = score[:, None] if score.ndim == 1 else score.reshape(1, -1), score.ndim == 1
    elif isinstance(score, int | float):
        values, fits, count = torch.tensor([[float(score)]]), True, None
    else:
        raise BadComponent(f"metric {metric} returned a {type(score).__name__}; bench.Metric says what it may return")
    if not fits or (count is not None and len(values) != count):
        form = f"({count},)" if isinstance(score, Tensor) else f"({count}, {len(names)})"
        raise BadComponent(
            f"metric {metric} returned {tuple(score.shape if isinstance(score, Tensor) else values.shape)} for {count} "
            f"images; return {form}, or a float where there is one number for all"
        )
    array = values.detach().double().cpu().numpy()
    if np.isinf(array).any():
        raise BadComponent(f"metric {metric} returned infinite values; return nan where it is undefined")
    for bounds, grain, why in (
        (metric.range, None, f"outside its range {metric.range}"),
        ((None, None), metric.grain, f"which is no multiple of its grain {metric.grain}"),
    ):
        found = find_impossible(array, bounds, grain)
        if found is not None:
            raise BadComponent(f"metric {metric} returned {found:g}, {why}; correct one of them")
    return tuple(names), array


def find_flags(graph: Graph, axes: frozenset[str]) -> list[str]:
    """What a reader must know about the attack of a case, for evidence that reaches these axes."""
    case, run, flags = graph.case, graph.get("attack_run"), []
    unmoved = 0.0
    if case.attack.moves and case.ball.eps > 0:
        unmoved = float((run["images"] == graph.get("images")).flatten(1).all(1).double().mean())
    if unmoved == 1:
        flags.append("nothing moved")
    elif unmoved > UNMOVED:
        flags.append(f"attack fails: it returns {unmoved:.0%} of the images as they were")
    error = float(run["gradient_error"].median()) if "gradient_error" in run else 0.0
    if not error <= GRADIENT_ERROR:  # nan fails as well
        off = "it could not be computed" if math.isnan(error) else f"off by {error:.1%}"
        flags.append(f"gradient check failed: {off}")
    if "explainer" not in axes:
        return flags
    if _follows_maps(case, run) and case.surrogate != case.explainer:
        flags.append(f"transfer: the attack followed {case.surrogate}")
    if graph.given:  # a user's pictures are few, and nobody ranks them
        return flags
    maps = graph.get("map_checks")
    if case.surrogate == case.explainer and (checks := graph.get("attack_checks")):
        flags += flag_attack(checks, float(maps["others"].nanmean()))
    return [*flags, *flag_maps(maps)]


def _follows_maps(case: Case, run: dict[str, Tensor]) -> bool:
    """Whether the attack follows a gradient of maps, not of a class alone."""
    return "after" in run and case.attack.beta is not None


def _objective(graph: Graph) -> dict[str, float]:
    """For an attack that follows a gradient of maps: means over images, and the share of images on which it fell."""
    run = graph.get("attack_run")
    if not _follows_maps(graph.case, run):
        return {}
    means = {"before": run["before"], "after": run["after"], "success": graph.get("attack_success")}
    return {name: float(values.double().mean()) for name, values in means.items()}


def prepare_publication(cell: Cell, record: Record) -> Record:
    """A record as it is published: without paths of this machine, with the papers of its row's components, and with
    what the metric says of itself now."""
    used = [c for axis, c in cell.case.components.items() if axis in cell.axes and axis != "surrogate" and c.paper]
    papers = {f"{c.kind} {c.name}": c.paper.bibtex for c in used if c.paper}
    return dataclasses.replace(
        record,
        flags=tuple(flag.replace(str(cell.case.surrogate), cell.case.surrogate.published) for flag in record.flags),
        metric=cell.metric.published,
        help=cell.metric.help,
        paper=cell.metric.paper.bibtex if cell.metric.paper else "",
        grain=cell.metric.grain,
        axes=cell.axis_texts(published_text),
        command=cell.command(published_text),
        provenance=record.provenance | ({"papers": papers} if papers else {}),
    )
