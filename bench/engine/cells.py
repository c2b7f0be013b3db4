"""Cells: one metric of one case each, with its key, or the reason why it is refused."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.axes import AXES
from bench.boards import VERSION, Record, make_command
from bench.components import Attack, Ball, Case, Component, Metric, defenses_in, freeze_files, parameters
from bench.engine.alignment import find_misfit
from bench.engine.catalog import Catalog
from bench.engine.evidence import VOCABULARY
from bench.engine.graph import dependencies
from bench.engine.shared import unchanged
from bench.engine.trials import find_unfit
from bench.errors import BenchError, EnvironmentProblem, PluginError, summarise_error
from bench.keys import Spec, describe_record, hash_spec

ByText = Mapping[tuple[str, frozenset[tuple[str, str]]], Sequence[Record]]


@dataclass(frozen=True)
class Cell:
    """One metric of one case. Cases that differ only along axes that the metric does not reach share the key."""

    case: Case
    metric: Metric
    spec: str
    refusal: str | None

    @functools.cached_property
    def key(self) -> str:
        return hash_spec(self.spec)

    @property
    def names(self) -> tuple[str, ...]:
        """The evidence that the metric names."""
        return dependencies(type(self.metric).__call__)

    @property
    def axes(self) -> frozenset[str]:
        """The axes that the metric reaches."""
        return VOCABULARY.reach(self.names)[0]

    @property
    def reaches_attack(self) -> bool:
        return "attack" in self.axes

    def __str__(self) -> str:
        shown = [a for a in ("dataset", "model", "defense", "explainer", "attack", "ball", "seed") if a in self.axes]
        # What is in memory has a checksum for a name, and whoever gave it knows it.
        named = [a for a in shown if not getattr(getattr(self.case, a), "in_memory", False)]
        if not set(named) - {"seed"}:
            return str(self.metric)
        return f"{self.metric} of " + ", ".join(f"{axis} {getattr(self.case, axis)}" for axis in named)

    def axis_texts(self, form: Callable[[Any], str] = str) -> dict[str, str]:
        """The choices along the axes that the metric reaches, as text."""
        return {axis: form(getattr(self.case, axis)) for axis in AXES if axis in self.axes}

    def command(self, form: Callable[[Any], str] = str) -> str:
        """The command that reproduces the record, with every axis that it reaches; "" where none does."""
        if any(component.in_memory for axis, component in self.case.components.items() if axis in self.axes):
            return ""
        return make_command(form(self.metric), self.axis_texts(form))

    def find_stale(self, records: ByText, form: Callable[[Any], str] = str) -> dict[str, str]:
        """What has changed since each record that has this cell's texts but another key was made, by that key."""
        alike = records.get((form(self.metric), frozenset(self.axis_texts(form).items())), ())
        return {r.key: _describe_changes(r, Spec.parse(self.spec)) for r in alike if r.key != self.key}


def group_by_text(records: Iterable[Record]) -> ByText:
    """Records by their metrics and axes, as text."""
    grouped: dict[tuple[str, frozenset[tuple[str, str]]], list[Record]] = {}
    for record in records:
        grouped.setdefault((record.metric, frozenset(record.axes.items())), []).append(record)
    return grouped


def _describe_changes(record: Record, spec: Spec) -> str:
    """What differs between the spec of a record and another."""
    try:
        return "; ".join(Spec.parse(record.spec).differences(spec))
    except ValueError:
        return "its spec cannot be read"


def published_text(choice: Any) -> str:
    """The text of an axis's choice in published records."""
    return choice.published if isinstance(choice, Component) else str(choice)


@freeze_files()
def list_cells(catalog: Catalog, cases: Iterable[Case], metrics: Sequence[Metric]) -> list[Cell]:
    """Every metric of every case, refused ones included."""
    with unchanged("a component's identity or refusal, or the hook bench_refuse,", catalog.library):
        return [_make_cell(catalog, case, metric) for case in cases for metric in metrics]


def _make_cell(catalog: Catalog, case: Case, metric: Metric) -> Cell:
    names = dependencies(type(metric).__call__)
    made = describe_record(VERSION, metric.identity)
    return Cell(
        case,
        metric,
        str(VOCABULARY.spec(made, list_needs(case, names), case)),
        find_refusal(catalog, case, names, metric),
    )


def list_needs(case: Case, names: tuple[str, ...]) -> tuple[str, ...]:
    """The evidence of a record: what its metric names, and what its value over kept predictions and its flags need."""
    axes = VOCABULARY.reach(names)[0]
    if "attack" not in axes:
        return names
    maps = ("map_checks",) if "explainer" in axes else ()
    attack = ("attack_checks",) if maps and case.surrogate == case.explainer else ()
    return (*names, "kept", *attack, *maps)


def find_refusal(catalog: Catalog, case: Case, names: tuple[str, ...], metric: Metric | None = None) -> str | None:
    """Why some evidence of a case cannot be computed, for a metric or by itself; None where it can."""
    axes, along = VOCABULARY.reach(names)
    used: dict[str, Component] = {axis: c for axis, c in case.components.items() if axis in axes}
    owner = "the request"
    if metric is not None:
        used["metric"] = metric
        owner = f"metric {metric.name}"
    source = ""
    try:
        for component in used.values():
            source = f"refuse of {component.kind} {component.name}"
            with contextlib.suppress(EnvironmentProblem):  # data that are not there refuse nothing
                if why := component.refuse(case):
                    return f"{component.kind} {component.name}: {why}"
        if "attack" in axes:
            if case.ball.space not in case.attack.spaces:
                return f"attack {case.attack}: {_name_others(catalog, case.ball)}"
            if metric is not None and (why := find_misfit(case, names)):
                return f"{owner}: {why}"
            with contextlib.suppress(EnvironmentProblem):
                if case.ball.transformation and (why := case.ball.transformation.find_misfit(case.dataset.form[0][0])):
                    return why
        needed = along | ({"labels"} if "targets" in along and case.target == "label" else set())
        source = f"provides of dataset {case.dataset.name}"
        for name in ("labels", "object_masks", "gaze"):
            if name in needed and name not in case.dataset.provides:
                missing = name.replace("_", " ")
                if case.dataset.in_memory:
                    remedy = "give labels, or other metrics" if name == "labels" else "choose other metrics"
                    return f"{owner}: the images in memory have no {missing}; {remedy}"
                return f"{owner}: dataset {case.dataset} has no {missing}; choose another data set"
        if "refit" in along:
            own = () if metric is None else tuple(defenses_in(metric))  # train in place of the case's
            for defense in own or (case.defense, *defenses_in(case.defense)):
                if not defense.trains:
                    why = f"it trains again on other data, which {defense.name} cannot do"
                    return f"{owner}: {why}; choose a defense that trains"
        if "trained" in along:
            source = "the network or the explainer"
            with contextlib.suppress(EnvironmentProblem):
                if why := find_unfit(case, used):
                    return why
        source = "the hook bench_refuse"
        refusal: str | None = catalog.hooks.hook.bench_refuse(case=case, used=used)
        return refusal
    except (BenchError, KeyboardInterrupt):
        raise
    except BaseException as error:  # sys.exit included
        raise PluginError(f"{source} failed ({summarise_error(error)})") from error


def _name_others(catalog: Catalog, ball: Ball) -> str:
    """Why an attack does not work in a ball, and which do."""
    ready = [cls() for cls in catalog.of("attack").values() if not any(p.required for p in parameters(cls).values())]
    able = [attack.name for attack in ready if isinstance(attack, Attack) and ball.space in attack.spaces]
    return f"it does not return {ball.space}, which {ball} takes; use {', '.join(able)}"
