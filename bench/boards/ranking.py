"""Who is ahead of whom: ranks of a board's rows. Uses neither torch nor plugins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.boards.columns import Column
from bench.boards.pairs import rank
from bench.boards.standing import find_margin
from bench.boards.statistics import Estimate, Rank, of_seeds

if TYPE_CHECKING:
    from bench.boards.board import Board, Row

CONTROLS = "controls"


def rank_rows(board: Board) -> Board:
    """The board with its rows by groups of rivals, and their ranks; a control, and a row that misses something or loses
    too much, has none."""
    if board.measured is None:
        return board
    # A group of controls alone has nothing to rank: they stand together at the end.
    able = {row.group for row in board.rows if not row.control}
    groups: dict[str, list[Row]] = {}
    for row in board.rows:
        group = row.group if row.group in able else CONTROLS
        missing = row.missing or _find_gap(board, row)
        loses = _find_loss(board, row)
        groups.setdefault(group, []).append(dataclasses.replace(row, group=group, missing=missing, loses=loses))
    ordered: list[Row] = []
    for name in sorted(groups, key=lambda name: name == CONTROLS):
        rivals = [
            (row, row.standing.value) for row in groups[name] if row.standing and not (row.control or row.missing)
        ]
        sign = -1 if rivals and rivals[0][1].records[0].better == "higher" else 1
        # Those with equal values stay in the protocol's order.
        rivals.sort(key=lambda each: (bool(each[0].loses), sign * round(each[1].value or 0.0, 3)))
        unguarded = guarded = _rank(board, rivals)
        if any(row.loses for row, _ in rivals):
            guarded = _rank(board, [each for each in rivals if not each[0].loses])
        ordered += [
            dataclasses.replace(row, rank=guarded.get(row.name), unguarded=unguarded[row.name]) for row, _ in rivals
        ]
        ordered += [row for row in groups[name] if row.missing and not row.control]
        ordered += [row for row in groups[name] if row.control]
    return dataclasses.replace(board, rows=ordered)


def _rank(board: Board, rivals: Sequence[tuple[Row, Estimate]]) -> dict[str, Rank]:
    """Ranks by the names of rows."""
    places = rank([value for _, value in rivals], [_find_margin(board, row) for row, _ in rivals])
    return {row.name: place for (row, _), place in zip(rivals, places, strict=True)}


def _find_margin(board: Board, row: Row) -> float:
    """What a row must be ahead by: nothing for the suite's own, and for others what `verify` lets pass."""
    score = board.protocol.score
    if score is None or row.standing is None or not board.reported(row):
        return 0.0
    allowed, ties = board.protocol.allowed(score.metric), board.protocol.allowed(score.ties)
    return find_margin(row.standing, allowed, allowed + ties) if board.score != board.measured else allowed


def _find_gap(board: Board, row: Row) -> str:
    """What the guard lacks to judge a row, on a board where it judges others, or "": no row escapes it."""
    score = board.protocol.score
    if score is None or score.guard is None or board.reference(row) or not any(map(board.reference, board.rows)):
        return ""
    return f"no reference row to compare its {score.against} with"


def _find_loss(board: Board, row: Row) -> str:
    """What a row lacks of the usefulness that the guard asks for, beside the reference row, or ""."""
    score, base = board.protocol.score, board.reference(row)
    if score is None or score.guard is None or base is None or base is row:
        return ""
    column = Column(score.against, "", "")
    mine, theirs = (
        of_seeds(each.estimates[column], board.ranked_seeds) if column in each.estimates else None
        for each in (row, base)
    )
    if mine is None or theirs is None or mine.value is None or theirs.value is None:
        return ""
    sign = 1 if mine.records[0].better == "higher" else -1
    if sign * (theirs.value - mine.value) <= score.guard + 1e-9:
        return ""
    return f"{mine.value:.3f} in {score.against}, where the reference has {theirs.value:.3f}"
