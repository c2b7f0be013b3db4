"""A board's protocol, from its TOML file: what is run, what is measured, and how far a re-run may be off.

Uses neither torch nor plugins: names of components are texts here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

from bench.axes import OPTIONS
from bench.errors import BadValue, EnvironmentProblem, UnknownName, suggestion

FILE = "board.toml"
# The options that every board chooses. A surrogate is chosen only where it is not the explainer itself.
REQUIRED = tuple(name for name in OPTIONS if name not in ("surrogate", "metric"))
KEYS = (
    "title", "about", "metrics", "axes", "reference", "fallback", "row", "tolerance", "score", "control", "paper",
    "example",
)  # fmt: skip


@dataclass(frozen=True)
class Score:
    """What rows are ranked by: a metric, at a budget where it reaches one (the largest, unless said), among the rows
    that agree in the axes `within`. It is drawn against a metric of usefulness, with one of cost."""

    metric: str
    ball: str = ""
    within: tuple[str, ...] = ()
    against: str = ""
    cost: str = ""


@dataclass(frozen=True)
class Paper:
    """Figures that a paper printed, by row and metric, and where they stand."""

    source: str
    url: str
    figures: dict[tuple[tuple[tuple[str, str], ...], str], float]

    def figure(self, row: Mapping[str, str], metric: str) -> float | None:
        found = (value for (axes, of), value in self.figures.items() if of == metric and set(axes) <= set(row.items()))
        return next(found, None)


@dataclass(frozen=True)
class Protocol:
    """`axes` holds a list of choices for each option of `bench run`; `reference` the choice that always joins;
    `fallback` the surrogate of explainers without a gradient; each of `rows` the axes on which further rows depart;
    `tolerance` how far each metric of a re-run may be from the published value; `controls`, by axis, what is shown for
    comparison and not ranked; `examples` the places of the images drawn for each row, of a set that may be shown."""

    metrics: list[str]
    axes: dict[str, list[Any]]
    reference: dict[str, str]
    fallback: dict[str, str]
    title: str = ""
    about: str = ""
    rows: list[dict[str, list[Any]]] = field(default_factory=list)
    tolerance: dict[str, float] = field(default_factory=dict)
    score: Score | None = None
    controls: dict[str, list[Any]] = field(default_factory=dict)
    paper: Paper | None = None
    examples: list[Any] = field(default_factory=list)

    def control(self, row: Mapping[str, str]) -> bool:
        return any(row.get(axis) in map(str, choices) for axis, choices in self.controls.items())

    def choices(self, axis: str) -> list[str]:
        """What the axes and the departing rows have along an axis, as a record writes it."""
        if axis == "ball":
            return [f"{norm}:{_fraction(eps)}" for norm in self.choices("norm") for eps in self.choices("eps")]
        return list(dict.fromkeys(str(c) for table in (self.axes, *self.rows) for c in table.get(axis, [])))

    def allowed(self, metric: str) -> float:
        """How far a value may be off: what is said of the metric's whole text, else of its name, else 0."""
        return self.tolerance.get(metric, self.tolerance.get(metric.partition(":")[0], 0.0))


def quick() -> Protocol:
    """quick.toml, which `bench run` takes its defaults from."""
    return parsed(resources.files("bench.boards").joinpath("quick.toml").read_text(), "quick.toml")


def board_protocol(folder: Path) -> Protocol:
    """That of a board: a folder with a board.toml."""
    file = folder / FILE
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise EnvironmentProblem(
            f"board {folder}: {file} cannot be read ({error.strerror}); name a folder that has one"
        ) from None
    except UnicodeDecodeError as error:
        raise BadValue(f"{file} is not TOML: {error}") from None
    return parsed(text, str(file))


def parsed(text: str, about: str) -> Protocol:
    """A protocol from TOML. Raises one of ours, naming the key, for what is unknown, missing or of the wrong form."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadValue(f"{about} is not TOML: {error}") from None
    _known(about, found, KEYS)
    axes = _axes(about, _table(about, found, "axes"))
    missing = [option for option in REQUIRED if option not in axes]
    if missing:
        raise BadValue(f"{about}: axes has no {', '.join(missing)}")
    rows = found.get("row", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadValue(f"{about}: row must be an array of tables, written [[row]]")
    tolerance = _table(about, found, "tolerance", required=False)
    for metric, value in tolerance.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
            raise BadValue(f"{about}: tolerance of {metric} is {value!r}, must be a number of at least 0")
    metrics = _choices(about, "metrics", found.get("metrics", []))
    protocol = Protocol(
        metrics=metrics,
        axes=axes,
        reference={k: str(v) for k, v in _table(about, found, "reference").items()},
        fallback={k: str(v) for k, v in _table(about, found, "fallback").items()},
        title=str(found.get("title", "")),
        about=str(found.get("about", "")),
        rows=[_axes(about, row) for row in rows],
        tolerance={metric: float(value) for metric, value in tolerance.items()},
        score=_score(about, found, metrics),
        controls=_axes(about, _table(about, found, "control", required=False), "control"),
        paper=_paper(about, found),
        examples=_examples(about, found.get("example", [])),
    )
    balls = protocol.choices("ball")
    if protocol.score and protocol.score.ball not in ("", *balls):
        raise BadValue(f"{about}: score: ball is {protocol.score.ball!r}, must be one of {', '.join(balls)}")
    return protocol


def _fraction(text: str) -> str:
    # As a record writes it: 2/4 is 1/2. Not of any text that Fraction takes: 1e999999999 is a whole number to it.
    return str(Fraction(text)) if re.fullmatch(r"\d{1,9}(/[1-9]\d{0,8}|\.\d{1,9})?", text) else text


def _score(about: str, found: Mapping[str, Any], metrics: list[str]) -> Score | None:
    if "score" not in found:
        return None
    table = _table(about, found, "score")
    within = table.get("within", [])
    if not isinstance(within, list) or not set(map(str, within)) <= set(REQUIRED):
        raise BadValue(f'{about}: score: within is {within!r}, must be a list of axes such as ["explainer"]')
    texts = {key: table.get(key, "") for key in ("metric", "ball", "against", "cost")}
    for key, text in texts.items():
        if not isinstance(text, str) or (key == "metric" and not text):
            raise BadValue(f"{about}: score: {key} is {text!r}, must be a text")
    for key in ("metric", "against", "cost"):
        if texts[key] and texts[key] not in metrics:
            raise BadValue(
                f"{about}: score: {key} is {texts[key]!r}, must be one of metrics: {', '.join(map(str, metrics))}"
            )
    return Score(**texts, within=tuple(within))


def _paper(about: str, found: Mapping[str, Any]) -> Paper | None:
    if "paper" not in found:
        return None
    table = _table(about, found, "paper")
    metrics, figures = _choices(about, "paper: metrics", table.get("metrics", [])), {}
    for row in table.get("rows", []) if isinstance(table.get("rows", []), list) else ():
        values = row.get("values") if isinstance(row, dict) else None
        fits = isinstance(values, list) and len(values) == len(metrics)
        if not fits or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            raise BadValue(f"{about}: paper: a row is {str(row)[:80]}, must be axes and values, one for each metric")
        axes = tuple(sorted((axis, str(text)) for axis, text in row.items() if axis != "values"))
        figures.update({(axes, str(metric)): float(value) for metric, value in zip(metrics, values, strict=True)})
    return Paper(str(table.get("source", "")), str(table.get("url", "")), figures)


def _examples(about: str, places: Any) -> list[int]:
    if not isinstance(places, list) or not all(type(place) is int and place >= 0 for place in places):
        raise BadValue(f"{about}: example is {places!r}, must be a list of places of images, from 0")
    return places


def _known(about: str, found: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    for key in found:
        if key not in keys:
            raise UnknownName(f"{about}: no key called {key!r}{suggestion(key, keys)}")


def _table(about: str, found: Mapping[str, Any], key: str, required: bool = True) -> dict[str, Any]:
    table = found.get(key, {})
    if not isinstance(table, dict) or (required and not table):
        raise BadValue(f"{about}: {key} must be a table with something in it, written [{key}]")
    known = {
        "reference": REQUIRED,
        "fallback": ("surrogate",),
        "score": ("metric", "ball", "within", "against", "cost"),
        "paper": ("source", "url", "metrics", "rows"),
    }
    _known(f"{about}: {key}", table, known.get(key, tuple(table)))
    return table


def _axes(about: str, axes: Mapping[str, Any], key: str = "axes") -> dict[str, list[Any]]:
    _known(f"{about}: {key}", axes, (*REQUIRED, "surrogate"))
    return {option: _choices(about, option, value) for option, value in axes.items()}


def _choices(about: str, key: str, value: Any) -> list[Any]:
    choices = value if isinstance(value, list) else [value]
    if not choices or not all(isinstance(choice, str | int) and not isinstance(choice, bool) for choice in choices):
        raise BadValue(f"{about}: {key} is {value!r}, must be a list of texts or whole numbers")
    return choices
