"""All generated files: those of a board, and those that lead to all boards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

from bench.boards.board import Board
from bench.boards.render import wording
from bench.boards.render.data import render_data, render_latex
from bench.boards.render.escape import escape_markdown
from bench.boards.render.figures import draw_picture
from bench.boards.render.leads import split_about, tell_evidence
from bench.boards.render.page import render_page, render_template
from bench.boards.render.readme import render_readme


def render_board(board: Board) -> dict[str, str]:
    """The generated files of a board by name, the same on every machine."""
    table, data = render_data(board)
    return {
        "README.md": render_readme(board),
        "table.csv": table,
        "table.tex": render_latex(board),
        "board.json": data,
        **render_page(board),
    }


def render_overview(boards: Sequence[Board]) -> dict[str, str]:
    """The page that leads to all boards, and the same in Markdown. Boards that rank most of their rows come first."""
    boards = sorted(boards, key=_ranks_few)
    lines = ["# Boards\n\nEach board has a page, `index.html`, with plots and the details of every row.\n\n"]
    for board in boards:
        title, about = escape_markdown(board.protocol.title or board.name), escape_markdown(board.protocol.about)
        leaders = [f"- {escape_markdown(text)}\n" for text in wording.describe_leaders(board)]
        lines += [f"## [{title}]({quote(board.name)}/README.md)\n\n{about}\n\n", *leaders, "\n"]
    text = "".join(lines).rstrip("\n") + "\n"
    shown = [(board, _tell_leaders(board), draw_picture(board, 1), _list_methods(board)) for board in boards]
    page = render_template("boards.html", boards=shown, split_about=split_about, tell_evidence=tell_evidence)
    return {"README.md": text, "index.html": page}


def _ranks_few(board: Board) -> bool:
    rivals = [row for row in board.rows if not row.control]
    return 2 * sum(row.rank is not None for row in rivals) < len(rivals)


def _tell_leaders(board: Board) -> list[str]:
    """Who is ahead, without the figures in brackets."""
    return [re.sub(r" \[[^]]*\]", "", text) for text in wording.describe_leaders(board)]


def _list_methods(board: Board) -> list[str]:
    """What can be looked for on a board: the choices along the axes that name its rows."""
    axes = [axis for axis in ("defense", "explainer", "model") if any(axis in row.axes for row in board.rows)]
    return sorted({row.axes[axis] for row in board.rows for axis in axes if axis in row.axes})
