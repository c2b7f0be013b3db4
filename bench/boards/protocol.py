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

from bench.axes import NORMS
from bench.boards.choices import CHOICE, CHOSEN, choices_of, component, one_choice, reduce_eps
from bench.boards.printed import PrintedFigures, printed_figures
from bench.boards.scale import Scale, scale_shape
from bench.downloads import Download
from bench.errors import BadValue, EnvironmentProblem
from bench.files import read_file
from bench.shapes import Misfit, check, list_of, number, one_of, parse_toml, quote, table, text

FILE = "board.toml"
SIZE = 100_000  # bytes of it
# The options that every board chooses. A surrogate is chosen only where it is not the explainer itself.
REQUIRED = [name for name in CHOSEN if name != "surrogate"]


@dataclass(frozen=True)
class Score:
    """What rows are ranked by: a metric, at a budget where it depends on one (the largest by default), among the rows
    that agree in the axes `within`. A plot shows it against a metric of usefulness, with one of cost.

    `attack` is the one that the score is under (the worst case of all by default), and `ceiling` the one that leaves
    images alone: rows rank by the share of what remains under it. `ties` is the metric of what ties alone take from a
    map, which is no part of that ceiling, `noise` the attack that is mere noise, and `chance` the metric of the chance
    level. A row without the metrics that `needs` names, or without that of usefulness, is not ranked; nor is one whose
    usefulness is more than `guard` below that of the reference row."""

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
    needs: tuple[str, ...] = ()
    guard: float | None = None


@dataclass(frozen=True)
class DataPin:
    """The data set that a board is measured on: its text, its fingerprint, and in words where to get it."""

    dataset: str
    fingerprint: str
    source: str


@dataclass(frozen=True)
class Protocol:
    """`training` says on how much networks are trained. `axes` has a list of choices for each option of `bench run`;
    `reference` the choice that always joins; `fallback` the surrogate of explainers without a gradient; each of `rows`
    the axes on which further rows depart; `tolerance` how far each metric of a re-run may be from the published value;
    `controls`, by axis, what is shown for comparison and not ranked; `examples` the places of the images drawn for each
    row, in a data set that may be shown; `data` and `files` what is measured on and read, so that nobody runs the board
    on anything else; `scales`, by name, smaller protocols, of which `scale_protocol` makes one; `names` what a page
    calls metrics and attacks, by their texts."""

    metrics: list[str]
    axes: dict[str, list[str]]
    reference: dict[str, str]
    fallback: dict[str, str]
    title: str = ""
    about: str = ""
    training: str = ""
    rows: list[dict[str, list[str]]] = field(default_factory=list)
    tolerance: dict[str, float] = field(default_factory=dict)
    score: Score | None = None
    controls: dict[str, list[str]] = field(default_factory=dict)
    paper: PrintedFigures | None = None
    examples: list[int] = field(default_factory=list)
    data: list[DataPin] = field(default_factory=list)
    files: list[Download] = field(default_factory=list)
    scales: dict[str, Scale] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def is_control(self, row: Mapping[str, str]) -> bool:
        return any(axis in row and row[axis] in choices for axis, choices in self.controls.items())

    def choices(self, axis: str) -> list[str]:
        """What the axes and the departing rows have along an axis, as a record writes it."""
        if axis == "ball":
            return [f"{norm}:{reduce_eps(eps)}" for norm, eps in self.budgets]
        return list(dict.fromkeys(choice for part in (self.axes, *self.rows) for choice in part.get(axis, [])))

    @property
    def budgets(self) -> list[tuple[str, str]]:
        """Norm and eps of the balls of the axes and of the departing rows, where each has only its own."""
        parts = [self.axes, *({**self.axes, **row} for row in self.rows)]
        return list(dict.fromkeys((norm, eps) for part in parts for norm in part["norm"] for eps in part["eps"]))

    def name(self, text: str) -> str:
        """What a page calls a metric or an attack: its name of `names`, else its own in words."""
        own, _, parameters = text.partition(":")
        words = own.replace("_", " ")
        return self.names.get(text) or (f"{words} ({parameters})" if parameters else words)

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
    for norm, eps in protocol.budgets:
        if not NORMS[norm].allows(Fraction(eps)):
            words = NORMS[norm].words or "budgets are in pixel units of [0, 1]"
            raise BadValue(f"{about}: eps {eps} is impossible in {norm}: {words}")
    samples = min(map(int, protocol.choices("samples")))
    if protocol.examples and max(protocol.examples) >= samples:
        raise BadValue(
            f"{about}: example is {quote(protocol.examples)}, must be places among {samples} samples, from 0"
        )
    if score := protocol.score:
        norms = list(dict.fromkeys(norm for norm, _ in protocol.budgets))
        if len(norms) > 1 and not score.ball:
            raise BadValue(
                f"{about}: score.ball is missing: budgets in {' and '.join(norms)} do not compare; choose one such as "
                f"{protocol.choices('ball')[0]}"
            )
        known = {
            **dict.fromkeys(("metric", "against", "cost", "ties", "chance", "needs"), protocol.metrics),
            **dict.fromkeys(("attack", "ceiling", "noise"), protocol.choices("attack")),
            "ball": protocol.choices("ball"),
        }
        if score.guard is not None and not score.against:
            raise BadValue(
                f"{about}: score.guard is {score.guard:g}, but no metric is guarded; name it in score.against"
            )
        for key, choices in known.items():
            chosen = getattr(score, key)
            for choice in chosen if key == "needs" else [chosen]:
                if choice and choice not in choices:
                    raise BadValue(f"{about}: score.{key} is {quote(choice)}, must be one of {', '.join(choices)}")
    return protocol


def _reference(value: Any) -> Any:
    if not value:
        raise Misfit('is empty; choose a row that always joins, such as defense = "ce"')
    return table({option: one_choice(CHOICE[option]) for option in REQUIRED}, optional=REQUIRED)(value)


def _score(value: Any) -> Score:
    names = dict.fromkeys(
        ("attack", "ceiling", "noise", "ties", "chance", "ball", "against", "cost"), text(1000, empty=True)
    )
    lists = {"within": list_of(one_of(*REQUIRED)), "needs": list_of(text(1000))}
    known = {"metric": text(1000), **names, **lists, "guard": number(low=0)}
    parts = table(known, optional=(*names, *lists, "guard"))(value)
    return Score(**{**parts, **{name: tuple(parts.get(name, ())) for name in lists}})


def _data(value: Any) -> DataPin:
    digits = text(64, form=re.compile(r"[0-9a-f]{1,64}", re.ASCII), words="what follows # in the set's identity")
    parts = table({"dataset": one_choice(component), "fingerprint": digits, "source": text(1000)})(value)
    return DataPin(**parts)


def _file(value: Any) -> Download:
    """A file by its path below the data folder, in the form that `locate` compares."""
    inside = re.compile(r"(?!.*(^|/)\.{1,2}(/|$))[^/\\]+(/[^/\\]+)*")
    parts = table(
        {
            "name": text(200, form=inside, words="a path below the data folder, such as weights/net.safetensors"),
            "sha256": text(64, form=re.compile(r"[0-9a-f]{64}", re.ASCII), words="64 digits from 0 to f"),
            "bytes": number(low=1, whole=True),
            "url": text(1000, form=re.compile(r"https?://[!-~]+"), words="an address, such as https://..."),
        },
        optional=("url",),
    )(value)
    return Download(parts["name"], parts["sha256"], parts["bytes"], parts.get("url", ""))


_TEXT = text(10_000, empty=True, lines=True)
_ROW = {option: choices_of(CHOICE[option]) for option in CHOSEN}
_DEPARTURE = table(_ROW, optional=CHOSEN)
_PROTOCOL = table(
    {
        "metrics": choices_of(component),
        "axes": table(_ROW, optional=("surrogate",)),
        "reference": _reference,
        "fallback": table(
            {"surrogate": one_choice(component), "trained": one_choice(component)}, optional=("trained",)
        ),
        "title": _TEXT,
        "about": _TEXT,
        "training": text(200),
        "row": list_of(_DEPARTURE),
        "tolerance": table({}, others=number(low=0)),
        "score": _score,
        "control": _DEPARTURE,
        "paper": printed_figures,
        "scale": table({}, others=scale_shape),
        "names": table({}, others=text(60)),
        "example": list_of(number(low=0, whole=True)),
        "data": list_of(_data),
        "file": list_of(_file),
    },
    optional=(
        "title",
        "about",
        "training",
        "row",
        "tolerance",
        "score",
        "control",
        "paper",
        "scale",
        "names",
        "example",
        "data",
        "file",
    ),
)
_FIELDS = {
    "row": "rows",
    "control": "controls",
    "example": "examples",
    "file": "files",
    "scale": "scales",
}  # whose keys are singular in a file
