"""A board as a page: one file that loads nothing, reads without JavaScript, and takes no text for markup."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from bench.boards.board import CONTROLS, COSTS, NORMALISED, WORST, Board, Column, Row, devices, format_value
from bench.boards.folder import GENERATED
from bench.boards.render.data import as_json, latex, table
from bench.boards.render.plots import Series, curves, histogram, points
from bench.boards.render.readme import (
    common,
    heading,
    label,
    leads,
    legend,
    markdown,
    meanings,
    named,
    naming,
    paper_columns,
    printed,
    readme,
)

PAGE = "index.html"
DOUBT = "not to be trusted"


def built(board: Board) -> dict[str, str]:
    """The generated files of a board by name, the same on every machine."""
    texts = (readme(board), table(board), latex(board), as_json(board), page(board))
    return dict(zip(GENERATED, texts, strict=True))


def page(board: Board) -> str:
    """index.html of a board."""
    columns = [*board.summary, *(c for c in board.columns if c not in board.summary)]
    groups: dict[str, list[Row]] = {}
    for row in board.rows:
        groups.setdefault(row.group, []).append(row)
    span = _span(board)
    views = {row.name: _view(board, row, columns, place, span) for place, row in enumerate(board.rows)}
    paper = board.protocol.paper
    return _rendered(
        "board.html",
        board=board,
        title=board.protocol.title or board.name,
        leads=leads(board),
        worst=WORST,
        named=named,
        helps={metric: text for metric, _, text in meanings(board)},
        naming=naming(board),
        columns=[_heading(board, column) for column in columns],
        groups=[{"label": group, "rows": [views[row.name] for row in rows]} for group, rows in groups.items()],
        legend=legend(board),
        has_reference=any(board.reference(row) not in (None, row) for row in board.rows),
        plots=_plots(board, groups),
        paper={
            "source": paper.source,
            "url": _link(paper.url),
            "metrics": [", ".join(heading(board, column)) for column in paper_columns(board).values()],
            "rows": [
                {"label": label(board, row, inside=False), "pairs": [_pair(*pair) for pair in pairs]}
                for row, pairs in printed(board)
            ],
        }
        if paper and printed(board)
        else None,
        meanings=meanings(board),
        common=common(board),
        submissions=[
            {
                "name": name,
                "meta": meta,
                "links": [(what, url) for what in ("paper", "code") if (url := _link(getattr(meta, what)))],
            }
            for name, meta in board.submissions.items()
        ],
    )


def overview(boards: Sequence[Board]) -> dict[str, str]:
    """The page that leads to all boards, and its like in Markdown."""
    found = [
        {
            "name": board.name,
            "title": board.protocol.title or board.name,
            "about": board.protocol.about,
            "leads": leads(board),
            "rows": len(board.rows),
            "said": "; ".join(f"{axis} {text}" for axis, text in common(board).items()),
        }
        for board in boards
    ]
    lines = [
        f"## [{markdown(each['title'])}]({quote(each['name'])}/README.md)\n\n{markdown(each['about'])}\n\n"
        + "".join(f"- {markdown(text)}\n" for text in each["leads"])
        for each in found
    ]
    text = "# Boards\n\nEach has a page, `index.html`, with pictures and every row's detail.\n\n" + "\n".join(lines)
    return {"README.md": text, PAGE: _rendered("boards.html", boards=found)}


def _link(url: str) -> str:
    """Where a link leads, "" for one that may not be followed."""
    scheme, _, rest = url.partition(":")
    return {"https": url, "http": url, "doi": f"https://doi.org/{quote(rest, safe='/')}"}.get(scheme, "")


@functools.cache
def _templates() -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )


def _template(name: str) -> str:
    return resources.files("bench.boards.render").joinpath("templates", name).read_text(encoding="utf-8")


def _rendered(name: str, **what: Any) -> str:
    style, script = _template("board.css"), _template("board.js")
    return (
        _templates()
        .get_template(name)
        .render(style=Markup(style), script=Markup(script), style_sum=_sum(style), script_sum=_sum(script), **what)
    )


def _sum(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@dataclass(frozen=True)
class Heading:
    """A column as the page shows it."""

    column: Column
    under: str
    better: str
    tip: str
    style: str

    @property
    def text(self) -> str:
        return f"{self.column.metric} {self.under}".strip()


def _heading(board: Board, column: Column) -> Heading:
    record = board.described[column.metric]
    under = ", ".join(heading(board, column)[1:])
    tip = f"{record.help[:1].upper()}{record.help[1:]}; {record.better} is better."
    if column.attack == WORST:
        tip += " Of each image the worst that any of the attacks does."
    elif column.attack:
        tip += f" Under the attack {column.attack}, within {column.ball}."
    if column.over:
        tip += " The area under the values of all eps" + (
            ", over their number." if column.ball.endswith(NORMALISED) else "."
        )
    if record.unit in COSTS:
        tip += " As a ratio to the reference row."
    style = "" if column in board.summary else "more"
    return Heading(column, under, record.better, tip, style)


@dataclass(frozen=True)
class Cell:
    text: str
    value: float | None = None
    around: str = ""
    beside: str = ""
    side: str = ""
    style: str = ""


def _cell(board: Board, row: Row, column: Column) -> Cell:
    style = "score" if column == board.score else "" if column in board.summary else "more"
    found = row.estimates.get(column)
    if found is None:
        return Cell("-", style=style)
    if found.value is None:
        return Cell("undefined", style=style)
    if found.records[0].unit in COSTS:
        times = board.cost_ratio(row, column)
        return Cell("-" if times is None else f"{times:.2f} x", times and round(times, 2), style=style)
    seeds = {r.axes["seed"] for r in found.records if "seed" in r.axes}
    text = format_value(found) + (" *" if found.starred else "")
    around = "[{:.2f}, {:.2f}]".format(*found.ci95) if found.ci95 else ""
    if seeds and seeds != board.seeds:
        around += f" {len(seeds)} of {len(board.seeds)} seeds"
    other = board.differences.get((row.name, column))
    if other is None:
        return Cell(text, round(found.value, 6), around, style=style)
    mark, side = {True: (" ▲", "better"), False: (" ▼", "worse"), None: ("", "")}[other.better]
    return Cell(text, round(found.value, 6), around, f"{other.value:+.3f}{mark}", side, style)


@dataclass(frozen=True)
class View:
    """A row as the page shows it, with all that stands below its name."""

    row: Row
    label: str
    order: int
    cells: list[Cell]
    doubts: list[str]
    histogram: Markup | None
    command: str
    full: str
    parameters: list[str]
    papers: list[str]
    weights: list[str]
    seeds: str
    submissions: str
    devices: str
    flags: list[str]
    pictures: list[str] = field(default_factory=list)

    @property
    def control(self) -> bool:
        return self.row.control

    @property
    def text(self) -> str:
        """What the filter looks through."""
        return " ".join(self.row.axes.values())


def _view(board: Board, row: Row, columns: Sequence[Column], place: int, span: tuple[float, float]) -> View:
    flags = sorted({flag for record in row.records for flag in record.flags})
    score = row.estimates.get(board.score) if board.score else None
    chosen = {axis: row.axes[axis] for axis in board.naming if row.axes.get(axis)}
    words = "".join(f" --{axis} {_shell(text)}" for axis, text in chosen.items())
    return View(
        row=row,
        label=label(board, row),
        order=place,
        cells=[_cell(board, row, column) for column in columns],
        doubts=[flag.partition(": ")[2] or flag for flag in flags if flag.startswith(DOUBT)],
        histogram=_histogram(board, row, span),
        command=f"bench run --board leaderboards/{board.name}{words} --no-reference",
        full="\n".join(dict.fromkeys(record.command for record in score.records)) if score else "",
        parameters=sorted({text for record in row.records for text in _identities(record.spec)}),
        papers=sorted({text for record in row.records for text in _texts(record.provenance.get("papers"))}),
        weights=sorted({text for record in row.records for text in _texts(record.provenance.get("weights"))}),
        seeds=", ".join(sorted({r.axes["seed"] for r in row.records if "seed" in r.axes})),
        submissions=", ".join(sorted({board.origin.get(record.key, "") for record in row.records})),
        devices="; ".join(devices(row.records)),
        flags=[flag for flag in flags if not flag.startswith(DOUBT)],
        pictures=[quote(path) for path in board.pictures.get(row.name, ())],
    )


def _shell(text: str) -> str:
    import shlex

    return shlex.quote(text)


def _identities(spec: str) -> list[str]:
    """The identities of components in the text that a key is made from."""
    try:
        return [text for text in json.loads(spec)[2].values() if isinstance(text, str) and "/" in text and "@" in text]
    except (ValueError, TypeError, LookupError, AttributeError):
        return []


def _texts(found: Any) -> list[str]:
    """The texts in what is a text, or holds some by name."""
    if isinstance(found, Mapping):
        return [
            f"{name}\n{text}" if "\n" in text else f"{name}: {text}"
            for name, text in found.items()
            if isinstance(text, str)
        ]
    return [found] if isinstance(found, str) and found else []


def _span(board: Board) -> tuple[float, float]:
    """The least and the largest value of any image in the score of any row."""
    found = [row.estimates[board.score].images for row in board.rows if board.score in row.estimates]
    values = [value for images in found for value in _defined(images)]
    return (min(values), max(values)) if values else (0.0, 1.0)


def _histogram(board: Board, row: Row, span: tuple[float, float]) -> Markup | None:
    """Of the score, image by image, on the scale of all rows."""
    if board.score is None or board.score not in row.estimates:
        return None
    values = _defined(row.estimates[board.score].images)
    return histogram(values, *span) if len(values) > 1 else None


def _defined(images: Mapping[str, Sequence[float | None]]) -> list[float]:
    return [value for values in images.values() for value in values if value is not None]


def _plots(board: Board, groups: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """Score against usefulness and cost, and curves over budgets and levels, for each group of rivals."""
    if board.score is None:
        return []
    ranked = [row for row in board.rows if not row.control]
    ranked.sort(key=lambda row: board.reference(row) is not row)  # the reference has the colour of the text
    names = dict.fromkeys(label(board, row) for row in ranked)
    places = {name: place for place, name in enumerate(names)}
    found = []
    for group, rows in groups.items():
        if group == CONTROLS:
            continue
        about = f"{group}: " if group else ""
        for plot in (
            _front(board, rows, places),
            *_over_budgets(board, rows, places),
            *_over_levels(board, rows, places),
        ):
            if plot:
                found.append({"svg": plot[0], "caption": f"{about}{plot[1]}"})
    return found


def _front(board: Board, rows: Sequence[Row], places: Mapping[str, int]) -> tuple[Markup, str] | None:
    wanted, score = board.protocol.score, board.score
    assert wanted is not None and score is not None
    against = next((c for c in board.summary if c.metric == wanted.against), None)
    cost = next((c for c in board.summary if c.metric == wanted.cost), None)
    if against is None:
        return None
    costs = {row.name: board.cost_ratio(row, cost) for row in rows} if cost else {}
    high = max((c for c in costs.values() if c), default=None)
    series = [
        Series(
            label(board, row) + (f" ({costs[row.name]:.1f} x)" if costs.get(row.name) else ""),
            [(round(row.estimates[against].value, 3), round(row.estimates[score].value, 3))],
            None if row.control else places.get(label(board, row)),
            math.sqrt(costs[row.name] / high) if high and costs.get(row.name) else 0.0,
        )
        for row in rows
        if all(c in row.estimates and row.estimates[c].value is not None for c in (against, score))
    ]
    if len({one.points[0] for one in series}) < 2:
        return None
    ways = [board.described[c.metric].better == "higher" for c in (against, score)]
    size = f"; the larger a point, the more {wanted.cost}" if high else ""
    text = f"{named(score)} against {named(against)}{size}. Dotted: what no other row beats in both; controls are grey."
    return points(series, against.metric, score.metric, (ways[0], ways[1])), text


def _over_budgets(board: Board, rows: Sequence[Row], places: Mapping[str, int]) -> list[tuple[Markup, str]]:
    from fractions import Fraction

    score = board.score
    assert score is not None
    norm = score.ball.partition(":")[0]
    balls = [
        c for c in board.columns
        if (c.metric, c.attack) == (score.metric, score.attack) and not c.over and c.ball.startswith(f"{norm}:")
    ]  # fmt: skip
    if len(balls) < 2:
        return []
    eps = {c: c.ball.partition(":")[2] for c in balls}
    balls.sort(key=lambda c: Fraction(eps[c]))
    series = [
        Series(
            label(board, row),
            [(float(Fraction(eps[c])), round(row.estimates[c].value, 4)) for c in balls],
            None if row.control else places.get(label(board, row)),
        )
        for row in rows
        if all(c in row.estimates and row.estimates[c].value is not None for c in balls)
    ]
    marks = [(float(Fraction(eps[c])), eps[c]) for c in balls]
    what = ", ".join(p for p in (score.metric, score.attack) if p)
    return [(curves(series, f"eps ({norm})", score.metric, marks), f"{what} over the budget.")] if series else []


def _over_levels(board: Board, rows: Sequence[Row], places: Mapping[str, int]) -> list[tuple[Markup, str]]:
    attacks = ["", *(str(text) for text in board.protocol.axes["attack"][:1])]
    found = []
    for column in (c for c in board.columns if c.attack in attacks and c.ball in ("", board.ball)):
        series = []
        for row in rows:
            curve = _levels(row.estimates[column].records) if column in row.estimates else []
            if len(curve) > 2:
                name = label(board, row)
                series.append(Series(name, curve, None if row.control else places.get(name)))
        if series:
            found.append((curves(series, "level, %", column.metric), f"{named(column)} over its levels."))
    return found


def _levels(records: Sequence[Any]) -> list[tuple[float, float]]:
    """The mean over seeds at each level whose name is a percentage."""
    found: dict[float, list[float]] = {}
    for record in records:
        for name, value in record.levels.items():
            if value is not None and name.endswith("%") and name[:-1].replace(".", "", 1).isdigit():
                found.setdefault(float(name[:-1]), []).append(value)
    return [(level, round(math.fsum(v) / len(v), 4)) for level, v in sorted(found.items()) if len(v) == len(records)]


def _pair(figure: float, ours: Any) -> str:
    return f"{figure:.3f} / {format_value(ours) if ours and ours.value is not None else '-'}"
