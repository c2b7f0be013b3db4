"""What a submission changes: the ranks and scores of boards before and after it, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from tabulate import tabulate

from bench.boards.board import Board, Row
from bench.boards.render.escape import quote_code
from bench.boards.render.wording import label_row, name_column

LISTED = 50  # rows of a board that are spelled out


def compare_boards(before: Mapping[str, Board], after: Mapping[str, Board]) -> str:
    """The rows whose rank or score changed, in a table for each board; boards are given by name."""
    parts = [_compare(before.get(name), board) for name, board in sorted(after.items())]
    parts += [f"The board {_quote(name)} is gone." for name in sorted(set(before) - set(after))]
    return "\n\n".join([part for part in parts if part] or ["No rank and no score changes."]) + "\n"


def _compare(before: Board | None, after: Board) -> str:
    old = {row.name: row for row in before.rows} if before else {}
    new = {row.name: row for row in after.rows}
    body = []
    for name in dict.fromkeys([*new, *old]):
        then, now = _format_standing(before, old.get(name)), _format_standing(after, new.get(name))
        if then != now:
            row, board = (new[name], after) if name in new else (old[name], before or after)
            body.append([_quote(label_row(board, row, inside=False)), *then, *now])
    if not body:
        return ""
    score = _quote(name_column(after.score)) if after.score else "score"
    headers = ["row", "rank before", f"{score}, before", "rank after", f"{score}, after"]
    more = [f"And {len(body) - LISTED} more rows."] if len(body) > LISTED else []
    table = tabulate(body[:LISTED], headers=headers, tablefmt="github", disable_numparse=True)
    return "\n\n".join([f"### {_quote(after.protocol.title or after.name)}", table, *more])


def _format_standing(board: Board | None, row: Row | None) -> tuple[str, str]:
    """The rank and the score of a row, as they are printed."""
    if board is None or row is None:
        return "-", "-"
    cell = board.cell(row, board.score) if board.score else None
    rank = str(row.rank) if row.rank else "control" if row.control else "not ranked"
    return rank, _quote(cell.text) if cell and cell.value is not None else "-"


def _quote(text: str) -> str:
    return quote_code(text).replace("|", "\\|")  # in a table, a pipe inside code separates cells too
