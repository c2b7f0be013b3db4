"""A board as a page: one file that loads nothing, reads without JavaScript, and takes no text for markup."""

from __future__ import annotations

import base64
import functools
import hashlib
import shlex
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup

from bench.boards.board import Board, Row, devices
from bench.boards.columns import WORST
from bench.boards.render import wording
from bench.boards.render.figures import draw_figures, draw_histograms
from bench.files import parse_json

if TYPE_CHECKING:
    import jinja2

UNRELIABLE = "unreliable: "  # how the flags start that the page shows beside a row's name


def render_page(board: Board) -> str:
    """index.html of a board."""
    paper, (paper_columns, paper_rows) = board.protocol.paper, wording.compare_with_paper(board)
    return render_template(
        "board.html",
        board=board,
        wording=wording,
        worst=WORST,
        columns=[*board.summary, *(column for column in board.columns if column not in board.summary)],
        helps={metric: text for metric, _, text in wording.describe_metrics(board)},
        label=functools.partial(wording.label_row, board),
        list_doubts=functools.partial(_list_doubts, board),
        list_details=functools.partial(_list_details, board),
        has_reference=any(board.reference(row) not in (None, row) for row in board.rows),
        figures=draw_figures(board),
        histograms=draw_histograms(board),
        pictures={row.name: _list_pictures(board, row) for row in board.rows},
        paper=paper if paper_rows else None,
        paper_columns=[", ".join(wording.split_heading(board, column)) for column in paper_columns],
        paper_rows=paper_rows,
        make_link=_make_link,
    )


def render_template(name: str, **content: Any) -> str:
    """A template with its style and script, and the sums by which the page's policy knows them."""
    style, script = _read_template("board.css"), _read_template("board.js")
    sums = {"style_sum": _sum(style), "script_sum": _sum(script)}
    return _open_templates().get_template(name).render(style=Markup(style), script=Markup(script), **sums, **content)


@functools.cache
def _open_templates() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_read_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )


def _read_template(name: str) -> str:
    return resources.files("bench.boards.render").joinpath("templates", name).read_text(encoding="utf-8")


def _sum(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _make_link(url: str) -> str:
    """The address that a link leads to, "" for one that may not be followed."""
    scheme, _, rest = url.partition(":")
    return {"https": url, "http": url, "doi": f"https://doi.org/{quote(rest, safe='/')}"}.get(scheme, "")


def _list_pictures(board: Board, row: Row) -> list[str]:
    """The paths of a row's pictures, from the submissions that speak about it."""
    names = {board.origin.get(record.key, "") for record in board.evidence(row)}
    return [quote(path) for path in board.pictures.get(row.name, ()) if path.split("/")[1] in names]


def _list_flags(board: Board, row: Row) -> list[str]:
    return sorted({flag for record in board.evidence(row) for flag in record.flags})


def _list_doubts(board: Board, row: Row) -> list[str]:
    """Why the numbers of a row are unreliable."""
    return [flag.removeprefix(UNRELIABLE) for flag in _list_flags(board, row) if flag.startswith(UNRELIABLE)]


def _list_details(board: Board, row: Row) -> Iterator[tuple[str, str, list[str]]]:
    """What the page tells of a row below the tables: a term, the tag that encloses each text, and the texts."""
    score = row.estimates.get(board.score) if board.score else None
    records = row.records
    axes = {axis: row.axes[axis] for axis in board.naming if row.axes.get(axis)}
    words = "".join(f" --{axis} {shlex.quote(text)}" for axis, text in axes.items())
    yield "Command", "pre", [f"bench run --board leaderboards/{board.name}{words} --no-reference"]
    commands = "\n".join(dict.fromkeys(record.command for record in score.records)) if score else ""
    yield "Score, in full", "pre", [commands] if commands else []
    yield "Parameters", "code", sorted({text for record in records for text in _list_identities(record.spec)})
    yield "Papers", "pre", _list_provenance(row, "papers")
    yield "Weights (SHA-256)", "code", _list_provenance(row, "weights")
    yield "Seeds", "", [", ".join(sorted({r.axes["seed"] for r in records if "seed" in r.axes}))]
    yield "Submission", "", [", ".join(sorted({board.origin.get(record.key, "") for record in records}))]
    source = " ".join(wording.describe_source(board, row)).strip()
    yield "Run again", "", [source] if source else []
    yield "Computed on", "", ["; ".join(devices(records))]
    yield "Notes", "", [flag for flag in _list_flags(board, row) if not flag.startswith(UNRELIABLE)]


def _list_identities(spec: str) -> list[str]:
    """The identities of components in the spec of a key."""
    try:
        return [text for text in parse_json(spec)[2].values() if isinstance(text, str) and "/" in text and "@" in text]
    except (ValueError, TypeError, LookupError, AttributeError):
        return []


def _list_provenance(row: Row, key: str) -> list[str]:
    """The texts that records have under a key of their provenance, alone or by name."""
    texts: set[str] = set()
    for content in (record.provenance.get(key) for record in row.records):
        if isinstance(content, Mapping):
            named = [(name, text) for name, text in content.items() if isinstance(text, str)]
            texts.update(f"{name}\n{text}" if "\n" in text else f"{name}: {text}" for name, text in named)
        elif isinstance(content, str) and content:
            texts.add(content)
    return sorted(texts)
