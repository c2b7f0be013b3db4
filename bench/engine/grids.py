"""Chooses one of several components by a metric on validation images, as papers choose the weights of their terms."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.components import Component
from bench.engine.catalog import Catalog
from bench.engine.runner import Outcome
from bench.errors import BadValue
from bench.keys import split


@dataclass(frozen=True)
class Candidate:
    """A component of a grid, with the means of the metric and of the guarded one over all cells; None where some cell
    has no value. `problem` is why it cannot be chosen."""

    component: Component
    value: float | None
    guarded: float | None
    problem: str = ""


@dataclass(frozen=True)
class Choice:
    """The candidates in their order, the reference, and the best candidate that the guard lets pass, if any."""

    candidates: list[Candidate]
    reference: Candidate | None
    best: Candidate | None


def expand(catalog: Catalog, kind: str, texts: Sequence[str], varied: Mapping[str, Sequence[str]]) -> list[Component]:
    """Every component of some texts with every combination of the varied parameters' values, each once."""
    components = []
    for text in texts:
        for values in itertools.product(*varied.values()):
            parts = [f"{name}={value}" for name, value in zip(varied, values, strict=True)]
            sign = "," if ":" in text else ":"
            components.append(catalog.read(kind, text + sign + ",".join(parts) if parts else text))
    return list(dict.fromkeys(components))


def read_varied(texts: Sequence[str]) -> dict[str, list[str]]:
    """The values of parameters from texts PARAMETER=VALUE,VALUE. Raises BadValue for all else."""
    varied: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name or name in varied or not all(split(values)):
            raise BadValue(f"--vary {text}: write PARAMETER=VALUE,VALUE, such as l2=0.01,0.1, each parameter once")
        varied[name] = split(values)
    return varied


def choose(outcome: Outcome, axis: str, metric: str, guarded: str, reference: Component | None, guard: float) -> Choice:
    """Choose along an axis by a metric, among the components that have at most `guard` less of the guarded metric than
    the reference has."""
    by_component: dict[Component, dict[str, list[float | None]]] = {}
    better = "higher"
    for cell in {cell.key: cell for cell in outcome.cells}.values():
        values = by_component.setdefault(getattr(cell.case, axis), {})
        record = outcome.records.get(cell.key)
        values.setdefault(str(cell.metric), []).append(record.value if record else None)
        if record and str(cell.metric) == metric:
            better = record.better
    every = [
        Candidate(component, _mean(values.get(metric, [])), _mean(values.get(guarded, [])))
        for component, values in by_component.items()
    ]
    base = next((each for each in every if each.component == reference), None)
    judged = [
        Candidate(each.component, each.value, each.guarded, _find_problem(each, base, metric, guarded, guard))
        for each in every
        if each is not base
    ]
    able = [each for each in judged if not each.problem and each.value is not None]
    sign = 1 if better == "higher" else -1
    best = max(able, key=lambda each: sign * (each.value or 0.0), default=None)
    return Choice(judged, base, best)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _find_problem(each: Candidate, base: Candidate | None, metric: str, guarded: str, guard: float) -> str:
    if each.value is None:
        return f"no {metric}"
    if base is None or base.guarded is None:
        return ""
    if each.guarded is None:
        return f"no {guarded}"
    lost = base.guarded - each.guarded
    return f"loses {lost:.3f}" if lost > guard + 1e-9 else ""
