"""What a submission would change: the ranks of two states of a board, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from tabulate import tabulate

from bench.boards.board import Board, Row, format_value
from bench.boards.render.readme import code, label, named

LISTED = 50  # rows of a board that are spelled out


def changed(before: Mapping[str, Board], after: Mapping[str, Board]) -> str:
    """Of boards by name, the rows whose rank or score is another, a table for each board."""
    parts = [_changed(before.get(name), board) for name, board in sorted(after.items())]
    parts += [f"The board {_quoted(name)} is gone." for name in sorted(set(before) - set(after))]
    found = [part for part in parts if part]
    return "\n\n".join(found or ["No rank and no score changes."]) + "\n"


def _changed(before: Board | None, after: Board) -> str:
    old = {row.name: row for row in before.rows} if before else {}
    new = {row.name: row for row in after.rows}
    body = []
    for name in dict.fromkeys([*new, *old]):
        then, now = _standing(before, old.get(name)), _standing(after, new.get(name))
        if then != now:
            row, board = (new[name], after) if name in new else (old[name], before or after)
            body.append([_quoted(label(board, row, inside=False)), *then, *now])
    if not body:
        return ""
    what = _quoted(named(after.score)) if after.score else "score"
    headers = ["row", "rank before", f"{what}, before", "rank after", f"{what}, after"]
    more = [f"And {len(body) - LISTED} rows more."] if len(body) > LISTED else []
    table = tabulate(body[:LISTED], headers=headers, tablefmt="github", disable_numparse=True)
    return "\n\n".join([f"### {_quoted(after.protocol.title or after.name)}", table, *more])


def _standing(board: Board | None, row: Row | None) -> tuple[str, str]:
    """The rank and the score of a row, as they are printed."""
    if board is None or row is None:
        return "-", "-"
    found = row.estimates.get(board.score) if board.score else None
    rank = str(row.rank) if row.rank else "control" if row.control else "not ranked"
    return rank, _quoted(format_value(found)) if found and found.value is not None else "-"


def _quoted(text: str) -> str:
    """A text as a code span, which calls nobody and links to nothing, in a table too."""
    return f"`{code(text)}`".replace("|", "\\|")
