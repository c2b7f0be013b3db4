"""A board as a page: it loads nothing from elsewhere, reads without JavaScript, and takes no text for markup."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup, escape

from bench.boards.board import Board, Row
from bench.boards.columns import WORST
from bench.boards.folder import ROWS
from bench.boards.render import wording
from bench.boards.render.figures import (
    describe_pictures,
    draw_figures,
    draw_histograms,
    draw_picture,
    find_against,
    find_cost,
)
from bench.boards.render.leads import list_leads, split_about, tell_evidence
from bench.boards.render.rows import describe_row, list_citations, make_link, write_rows
from bench.boards.submissions.metadata import Meta

if TYPE_CHECKING:
    import jinja2

SOURCE = "https://github.com/robust-explanation-bench/robust-explanation-bench"
DOCS = "https://robust-explanation-bench.github.io/robust-explanation-bench/"


def render_page(board: Board) -> dict[str, str]:
    """index.html of a board, and rows.js where it has more rows than the page begins with."""
    paper, (paper_columns, paper_rows) = board.protocol.paper, wording.compare_with_paper(board)
    columns = [*board.summary, *(column for column in board.columns if column not in board.summary)]
    groups = list(wording.group_rows(board))
    leading: dict[str, list[dict[str, Any]]] = {group: [] for group in groups}
    place = {row.name: at for at, row in enumerate(board.rows)}
    for row in board.leading:
        leading[row.group].append({**describe_row(board, row, columns), "place": place[row.name], "row": row})
    more = len(board.leading) < len(board.rows)
    page = render_template(
        "board.html",
        more=more,
        board=board,
        wording=wording,
        worst=WORST,
        columns=columns,
        groups=leading,
        about=split_about(board.protocol.about),
        leads=list_leads(board),
        tell_evidence=tell_evidence,
        let_break=_let_break,
        against=find_against(board),
        cost=find_cost(board),
        helps={metric: text for metric, _, text in wording.describe_metrics(board)},
        label=functools.partial(wording.label_row, board),
        has_reference=any(board.reference(row) not in (None, row) for row in board.rows),
        picture=draw_picture(board),
        figures=draw_figures(board),
        histograms=draw_histograms(board),
        pictures={row.name: _list_pictures(board, row) for row in board.leading},
        describe_pictures=functools.partial(describe_pictures, board),
        citations=list_citations(board),
        submissions=_list_submissions(board),
        paper=paper if paper_rows else None,
        paper_columns=[", ".join(wording.split_heading(board, column)) for column in paper_columns],
        paper_rows=paper_rows,
        make_link=make_link,
    )
    return {"index.html": page, **({ROWS: write_rows(board, columns, groups)} if more else {})}


def render_template(name: str, more: bool = False, **content: Any) -> str:
    """A template with its style and script, and the sums by which the page's policy knows them. `more` lets the page
    load a script from its own folder."""
    style, script = _read_template("board.css"), _read_template("board.js")
    scripts = f"'sha256-{_sum(script)}'" + (" 'self'" if more else "")
    return (
        _open_templates()
        .get_template(name)
        .render(
            style=Markup(style),
            script=Markup(script),
            style_sum=_sum(style),
            scripts=Markup(scripts),
            source=SOURCE,
            docs=DOCS,
            more=more,
            **content,
        )
    )


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


def _let_break(text: str) -> Markup:
    """The text of components, which may break between their parts."""
    return Markup(re.sub(r"(?<=[:,=])(?=\S)", "<wbr>", str(escape(text))))


def _list_pictures(board: Board, row: Row) -> list[str]:
    """The paths of a row's pictures, from the submissions that speak about it."""
    names = {board.origin.get(record.key, "") for record in board.evidence(row)}
    return [quote(path) for path in board.pictures.get(row.name, ()) if path.split("/")[1] in names]


def _list_submissions(board: Board) -> dict[str, Meta]:
    """The submissions of the leading rows."""
    names = {board.origin.get(record.key, "") for row in board.leading for record in row.records}
    return {name: meta for name, meta in board.submissions.items() if name in names}
