"""What is asked: texts along the axes, completed from quick.toml, to cases and metrics."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from typing import Any

from bench.case import AXES, Case, cases
from bench.catalog import Catalog
from bench.components import Component, parameters
from bench.errors import BadValue, UnknownName, suggestion
from bench.kinds import KINDS, Ball, Explainer, Metric

OPTIONS = (*(axis for axis in AXES if axis != "ball"), "eps", "norm", "metric")


@dataclass(frozen=True)
class Request:
    """Cases and metrics, and what `all` had to leave out."""

    cases: tuple[Case, ...]
    metrics: tuple[Metric, ...]
    skipped: tuple[str, ...]


def defaults() -> dict[str, Any]:
    """quick.toml."""
    return tomllib.loads(resources.files("bench").joinpath("quick.toml").read_text())


def request(catalog: Catalog, given: Mapping[str, Sequence[Any]], reference: bool = True) -> Request:
    """Cases and metrics from lists of texts by option; options left out come from quick.toml, whose reference row
    joins unless `reference` says no. Raises one of ours for whatever is unknown, of the wrong form, or impossible."""
    quick = defaults()
    for option in given:
        if option not in OPTIONS:
            raise UnknownName(f"no option called {option!r}{suggestion(option, OPTIONS)}")
    asked = {**quick["axes"], "metric": quick["metrics"], **{o: list(v) for o, v in given.items() if v}}
    for option, value in quick["reference"].items() if reference else ():
        asked[option] = [value, *(text for text in asked[option] if text != value)]
    skipped: list[str] = []
    choices: dict[str, list[Any]] = {
        option: _components(catalog, "explainer" if option == "surrogate" else option, texts, skipped)
        for option, texts in asked.items()
        if option in KINDS or option == "surrogate"
    }
    choices["ball"] = [Ball(norm, eps) for norm in asked["norm"] for eps in map(_fraction, asked["eps"])]
    for option in ("seed", "samples"):
        choices[option] = [_whole(option, value) for value in asked[option]]
    for option in ("split", "target"):
        choices[option] = asked[option]
    fallback = catalog.read("explainer", quick["fallback"]["surrogate"])
    assert isinstance(fallback, Explainer)
    metrics = tuple(dict.fromkeys(choices.pop("metric")))
    return Request(tuple(cases(choices, fallback)), metrics, tuple(skipped))


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
