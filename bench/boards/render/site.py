"""All generated files: those of a board, and those that lead to all boards."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from bench.boards.board import Board
from bench.boards.folder import GENERATED
from bench.boards.render import wording
from bench.boards.render.data import render_data, render_latex
from bench.boards.render.escape import escape_markdown
from bench.boards.render.page import render_page, render_template
from bench.boards.render.readme import render_readme


def render_board(board: Board) -> dict[str, str]:
    """The generated files of a board by name, the same on every machine."""
    table, data = render_data(board)
    texts = [render_readme(board), table, render_latex(board), data, render_page(board)]
    return dict(zip(GENERATED, texts, strict=True))


def render_overview(boards: Sequence[Board]) -> dict[str, str]:
    """The page that leads to all boards, and the same in Markdown."""
    lines = ["# Boards\n\nEach board has a page, `index.html`, with plots and the details of every row.\n\n"]
    for board in boards:
        title, about = escape_markdown(board.protocol.title or board.name), escape_markdown(board.protocol.about)
        leaders = [f"- {escape_markdown(text)}\n" for text in wording.describe_leaders(board)]
        lines += [f"## [{title}]({quote(board.name)}/README.md)\n\n{about}\n\n", *leaders, "\n"]
    text = "".join(lines).rstrip("\n") + "\n"
    return {"README.md": text, "index.html": render_template("boards.html", boards=boards, wording=wording)}
