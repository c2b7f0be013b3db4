"""From texts along the axes to cases and metrics; a protocol fills in what is left out."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

from bench.axes import OPTIONS, option_texts
from bench.boards import Protocol, quick_protocol
from bench.components import Ball, Case, Component, Explainer, Metric, cases, parameters
from bench.engine.catalog import Catalog
from bench.engine.pretrained import settle
from bench.engine.shared import unchanged
from bench.errors import BadValue, UnknownName, suggestion
from bench.zoo import Network

T = TypeVar("T")


@dataclass(frozen=True)
class Selection:
    """Cases and metrics, what `all` had to leave out, and the networks of the zoo whose weights the cases take."""

    cases: tuple[Case, ...]
    metrics: tuple[Metric, ...]
    skipped: tuple[str, ...]
    networks: tuple[Network, ...] = ()


def select(
    catalog: Catalog, given: Mapping[str, Sequence[Any]], reference: bool = True, protocol: Protocol | None = None
) -> Selection:
    """Cases and metrics from lists of texts by option.

    Options left out come from the protocol, or from quick.toml without one. The protocol's reference row joins if
    `reference`; each of its departing rows joins unless an option is given on which it departs. Raises one of our
    errors for anything unknown, of the wrong form, or impossible.
    """
    with unchanged("making the components", catalog.library):
        return _select(catalog, given, reference, protocol or quick_protocol())


def _select(catalog: Catalog, given: Mapping[str, Sequence[Any]], reference: bool, protocol: Protocol) -> Selection:
    for option in given:
        if option not in OPTIONS:
            raise UnknownName(f"no option called {option!r}{suggestion(option, OPTIONS)}")
    chosen = {option: list(values) for option, values in given.items() if values}
    texts = {**protocol.axes, **chosen}
    metrics = texts.pop("metric", protocol.metrics)
    if reference:
        for option, value in protocol.reference.items():
            texts[option] = [value, *(text for text in texts[option] if text != value)]
    skipped: list[str] = []
    fallback = catalog.read("explainer", protocol.fallback["surrogate"])
    assert isinstance(fallback, Explainer)
    selected = list(_list_cases(catalog, texts, chosen, fallback, skipped))
    for row in protocol.rows:
        if not set(row) & set(chosen):
            selected += _list_cases(catalog, {**texts, **row}, {*chosen, *row}, fallback, skipped)
    selected, networks = settle(selected, catalog, protocol.reference.get("defense", "") if reference else "")
    read = [metric for metric in _read_components(catalog, "metric", metrics, skipped) if isinstance(metric, Metric)]
    return Selection(_unique(selected), _unique(read), _unique(skipped), tuple(networks))


def _list_cases(
    catalog: Catalog,
    texts: Mapping[str, Sequence[Any]],
    fixed: Collection[str],
    fallback: Explainer,
    skipped: list[str],
) -> Iterator[Case]:
    """Every case of some choices. Beside a network of the zoo, the options that are not `fixed` are its own."""
    choices = _read_choices(catalog, texts, skipped)
    loaded = [defense for defense in choices["defense"] if defense.pretrained]
    if not loaded:
        yield from cases(choices, fallback)
    others = [defense for defense in choices["defense"] if not defense.pretrained]
    for defense in loaded:
        own = {axis: [text] for axis, text in defense.pretrained.axes.items() if axis not in fixed}
        own["defense"] = [*others, defense]
        yield from cases(_read_choices(catalog, {**texts, **own}, skipped), fallback)


def select_record(
    catalog: Catalog, metric: str, axes: Mapping[str, str], protocol: Protocol | None = None
) -> Selection:
    """The case and the metric of a record, from the texts of its metric and of the axes that it reaches."""
    given = {o: [text] for axis, choice in axes.items() for o, text in option_texts(axis, choice).items()}
    return select(catalog, {**given, "metric": [metric]}, False, protocol)


def _unique(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _read_choices(catalog: Catalog, texts: Mapping[str, Sequence[Any]], skipped: list[str]) -> dict[str, Sequence[Any]]:
    choices: dict[str, Sequence[Any]] = {
        option: _read_components(catalog, OPTIONS[option].kind, values, skipped)
        if OPTIONS[option].kind
        else [_whole(option, value) for value in values]
        if option in ("seed", "samples")
        else list(values)
        for option, values in texts.items()
        if option not in ("eps", "norm")
    }
    return {**choices, "ball": [Ball(norm, eps) for norm in texts["norm"] for eps in map(_fraction, texts["eps"])]}


def _read_components(catalog: Catalog, kind: str, texts: Sequence[Any], skipped: list[str]) -> list[Component]:
    components: list[Component] = []
    for text in texts:
        if isinstance(text, Component):
            if text.kind != kind:
                raise BadValue(f"{text} is a component of kind {text.kind}, not of kind {kind}")
            components.append(text)
        elif text == "all":
            for name, cls in catalog.of(kind).items():
                needs = [p.name for p in parameters(cls).values() if p.required]
                if needs:
                    skipped.append(f"{kind} {name} needs {', '.join(needs)}")
                else:
                    components.append(cls())
        else:
            components.append(catalog.read(kind, text))
    return components


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
