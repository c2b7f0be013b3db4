"""A board's protocol, from its TOML file: what is run, what is measured, and how far a re-run may be off.

Needs neither torch nor plugins: names of components are texts here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

from bench.axes import OPTIONS
from bench.boards.shapes import LARGEST, Misfit, check, list_of, number, one_of, parse_toml, quote, table, text
from bench.errors import BadValue, EnvironmentProblem
from bench.files import read_file

FILE = "board.toml"
SIZE = 20_000  # bytes of it
_CHOSEN = [name for name in OPTIONS if name != "metric"]
# The options that every board chooses. A surrogate is chosen only where it is not the explainer itself.
REQUIRED = [name for name in _CHOSEN if name != "surrogate"]


@dataclass(frozen=True)
class Score:
    """What rows are ranked by: a metric, at a budget where it depends on one (the largest by default), among the rows
    that agree in the axes `within`. A plot shows it against a metric of usefulness, with one of cost.

    `attack` is the one that the score is under (the worst case of all by default), and `ceiling` the one that leaves
    images alone: rows rank by the share of what remains under it. `ties` is the metric of what ties alone take from a
    map, which is no part of that ceiling, `noise` the attack that is mere noise, and `chance` the metric of the chance
    level."""

    metric: str
    attack: str = ""
    ceiling: str = ""
    noise: str = ""
    ties: str = ""
    chance: str = ""
    ball: str = ""
    within: tuple[str, ...] = ()
    against: str = ""
    cost: str = ""


@dataclass(frozen=True)
class PrintedFigures:
    """Figures that a paper printed, by row and metric, and where to find them."""

    source: str
    url: str
    figures: dict[tuple[tuple[tuple[str, str], ...], str], float]

    def figure(self, row: Mapping[str, str], metric: str) -> float | None:
        fits = (value for (axes, of), value in self.figures.items() if of == metric and set(axes) <= set(row.items()))
        return next(fits, None)


@dataclass(frozen=True)
class Protocol:
    """`axes` has a list of choices for each option of `bench run`; `reference` the choice that always joins;
    `fallback` the surrogate of explainers without a gradient; each of `rows` the axes on which further rows depart;
    `tolerance` how far each metric of a re-run may be from the published value; `controls`, by axis, what is shown for
    comparison and not ranked; `examples` the places of the images drawn for each row, in a data set that may be
    shown."""

    metrics: list[str]
    axes: dict[str, list[str]]
    reference: dict[str, str]
    fallback: dict[str, str]
    title: str = ""
    about: str = ""
    rows: list[dict[str, list[str]]] = field(default_factory=list)
    tolerance: dict[str, float] = field(default_factory=dict)
    score: Score | None = None
    controls: dict[str, list[str]] = field(default_factory=dict)
    paper: PrintedFigures | None = None
    examples: list[int] = field(default_factory=list)

    def is_control(self, row: Mapping[str, str]) -> bool:
        return any(axis in row and row[axis] in choices for axis, choices in self.controls.items())

    def choices(self, axis: str) -> list[str]:
        """What the axes and the departing rows have along an axis, as a record writes it."""
        if axis == "ball":
            return [f"{norm}:{_reduce(eps)}" for norm in self.choices("norm") for eps in self.choices("eps")]
        return list(dict.fromkeys(choice for part in (self.axes, *self.rows) for choice in part.get(axis, [])))

    def allowed(self, metric: str) -> float:
        """How far a value may be off: the tolerance of the metric's whole text, else that of its name, else 0."""
        return self.tolerance.get(metric, self.tolerance.get(metric.partition(":")[0], 0.0))


def quick_protocol() -> Protocol:
    """quick.toml, from which `bench run` takes its defaults."""
    return parse_protocol(resources.files("bench.boards").joinpath("quick.toml").read_bytes(), "quick.toml")


def read_protocol(folder: Path) -> Protocol:
    """The protocol of a board: a folder with a board.toml."""
    file = folder / FILE
    try:
        raw = read_file(file, SIZE)
    except OSError as error:
        raise EnvironmentProblem(
            f"board {folder}: {file} cannot be read ({error.strerror}); name a folder that has one"
        ) from None
    return parse_protocol(raw, str(file))


def parse_protocol(raw: bytes, about: str) -> Protocol:
    """A protocol from TOML. Raises BadValue, naming the key, for what is unknown, missing or of the wrong form."""
    parts = check(about, _PROTOCOL, parse_toml(about, raw))
    protocol = Protocol(**{_FIELDS.get(key, key): value for key, value in parts.items()})
    if score := protocol.score:
        known = {
            **dict.fromkeys(("metric", "against", "cost", "ties", "chance"), protocol.metrics),
            **dict.fromkeys(("attack", "ceiling", "noise"), protocol.choices("attack")),
            "ball": protocol.choices("ball"),
        }
        for key, choices in known.items():
            if (choice := getattr(score, key)) and choice not in choices:
                raise BadValue(f"{about}: score.{key} is {quote(choice)}, must be one of {', '.join(choices)}")
    return protocol


def _reduce(eps: str) -> str:
    # As a record writes it: 2/4 is 1/2. Not every text that Fraction reads: 1e999999999 is a whole number to it.
    return str(Fraction(eps)) if re.fullmatch(r"\d{1,9}(/[1-9]\d{0,8}|\.\d{1,9})?", eps) else eps


def _choices(value: Any) -> list[str]:
    """One choice or a list of them."""
    choices = value if isinstance(value, list) else [value]
    if not choices or not all(type(c) is str or (type(c) is int and abs(c) <= LARGEST) for c in choices):
        raise Misfit(f"is {quote(value)}, must be a list of texts or whole numbers")
    return [str(choice) for choice in choices]


def _choice(value: Any) -> str:
    return _choices([value])[0]


def _reference(value: Any) -> Any:
    if not value:
        raise Misfit('is empty; choose a row that always joins, such as defense = "ce"')
    return table(dict.fromkeys(REQUIRED, _choice), optional=REQUIRED)(value)


def _score(value: Any) -> Score:
    names = dict.fromkeys(
        ("attack", "ceiling", "noise", "ties", "chance", "ball", "against", "cost"), text(1000, empty=True)
    )
    shapes = {"metric": text(1000), **names, "within": list_of(one_of(*REQUIRED))}
    parts = table(shapes, optional=(*names, "within"))(value)
    return Score(**{**parts, "within": tuple(parts.get("within", ()))})


def _printed_figures(value: Any) -> PrintedFigures:
    row = table({**dict.fromkeys(_CHOSEN, _choice), "values": list_of(number())}, optional=_CHOSEN)
    parts = table({"source": _TEXT, "url": _TEXT, "metrics": _choices, "rows": list_of(row)})(value)
    figures = {}
    for place, axes in enumerate(parts["rows"]):
        values = axes.pop("values")
        if len(values) != len(parts["metrics"]):
            raise Misfit(f"is {quote(values)}, must have a number for each metric", f"rows[{place}].values")
        figures.update({(tuple(sorted(axes.items())), of): v for of, v in zip(parts["metrics"], values, strict=True)})
    return PrintedFigures(parts["source"], parts["url"], figures)


_TEXT = text(10_000, empty=True, lines=True)
_DEPARTURE = table(dict.fromkeys(_CHOSEN, _choices), optional=_CHOSEN)
_PROTOCOL = table(
    {
        "metrics": _choices,
        "axes": table(dict.fromkeys(_CHOSEN, _choices), optional=("surrogate",)),
        "reference": _reference,
        "fallback": table({"surrogate": _choice}),
        "title": _TEXT,
        "about": _TEXT,
        "row": list_of(_DEPARTURE),
        "tolerance": table({}, others=number(low=0)),
        "score": _score,
        "control": _DEPARTURE,
        "paper": _printed_figures,
        "example": list_of(number(low=0, whole=True)),
    },
    optional=("title", "about", "row", "tolerance", "score", "control", "paper", "example"),
)
_FIELDS = {"row": "rows", "control": "controls", "example": "examples"}  # whose keys are singular in a file
