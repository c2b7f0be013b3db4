"""What is asked: texts along the axes, completed from a protocol, to cases and metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from bench.boards.protocol import Protocol, quick
from bench.components.base import Component, parameters
from bench.components.case import AXES, Case, cases
from bench.components.kinds import KINDS, Ball, Explainer, Metric
from bench.engine.catalog import Catalog
from bench.errors import BadValue, UnknownName, suggestion

OPTIONS = (*(axis for axis in AXES if axis != "ball"), "eps", "norm", "metric")


@dataclass(frozen=True)
class Request:
    """Cases and metrics, and what `all` had to leave out."""

    cases: tuple[Case, ...]
    metrics: tuple[Metric, ...]
    skipped: tuple[str, ...]


def request(
    catalog: Catalog, given: Mapping[str, Sequence[Any]], reference: bool = True, protocol: Protocol | None = None
) -> Request:
    """Cases and metrics from lists of texts by option; options left out come from the protocol, quick.toml without
    one. Its reference row joins unless `reference` says no; its departing rows do where nothing is given that they
    depart on. Raises one of ours for whatever is unknown, of the wrong form, or impossible."""
    protocol = protocol or quick()
    for option in given:
        if option not in OPTIONS:
            raise UnknownName(f"no option called {option!r}{suggestion(option, OPTIONS)}")
    chosen = {option: list(values) for option, values in given.items() if values}
    asked = {**protocol.axes, **chosen}
    metrics = asked.pop("metric", protocol.metrics)
    for option, value in protocol.reference.items() if reference else ():
        asked[option] = [value, *(text for text in asked[option] if text != value)]
    skipped: list[str] = []
    fallback = catalog.read("explainer", protocol.fallback["surrogate"])
    assert isinstance(fallback, Explainer)
    found = list(cases(_choices(catalog, asked, skipped), fallback))
    for row in protocol.rows:
        if not set(row) & set(chosen):
            found += cases(_choices(catalog, {**asked, **row}, skipped), fallback)
    read = [metric for metric in _components(catalog, "metric", metrics, skipped) if isinstance(metric, Metric)]
    return Request(tuple(dict.fromkeys(found)), tuple(dict.fromkeys(read)), tuple(dict.fromkeys(skipped)))


def _choices(catalog: Catalog, asked: Mapping[str, Sequence[Any]], skipped: list[str]) -> dict[str, list[Any]]:
    choices: dict[str, list[Any]] = {
        option: _components(catalog, "explainer" if option == "surrogate" else option, texts, skipped)
        for option, texts in asked.items()
        if option in KINDS or option == "surrogate"
    }
    choices["ball"] = [Ball(norm, eps) for norm in asked["norm"] for eps in map(_fraction, asked["eps"])]
    for option in ("seed", "samples"):
        choices[option] = [_whole(option, value) for value in asked[option]]
    for option in ("split", "target"):
        choices[option] = list(asked[option])
    return choices


def _components(catalog: Catalog, kind: str, texts: Sequence[Any], skipped: list[str]) -> list[Component]:
    found: list[Component] = []
    for text in texts:
        if isinstance(text, Component):
            if text.kind != kind:
                raise BadValue(f"{text} is a component of kind {text.kind}, {kind} was asked")
            found.append(text)
        elif text == "all":
            for name, cls in catalog.of(kind).items():
                needs = [p.name for p in parameters(cls).values() if p.required]
                if needs:
                    skipped.append(f"{kind} {name} needs {', '.join(needs)}")
                else:
                    found.append(cls())
        else:
            found.append(catalog.read(kind, text))
    return found


def _fraction(value: Any) -> Fraction:
    try:
        if len(str(value)) > 100 or re.search(r"e[+-]?\d{4}", str(value), re.IGNORECASE):
            raise ValueError
        return Fraction(str(value))
    except (ValueError, TypeError, ZeroDivisionError):
        raise BadValue(f"eps {str(value)[:100]!r} is not a number; write a fraction such as 8/255") from None


def _whole(option: str, value: Any) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise BadValue(f"{option} {value!r} is not a whole number") from None
