"""Who leads a board, by how much and at what price, and what that rests on: the first lines of its page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.boards.board import Board, Row
from bench.boards.cell import Cell, format_value
from bench.boards.columns import Column
from bench.boards.render.figures import find_against, find_cost
from bench.boards.render.wording import describe_scale, describe_source, group_rows, label_row
from bench.boards.statistics import difference

FIRST = 260  # letters of the first two sentences, or the second one is left for later
NAMED = 2  # rows that share the first place and are named


@dataclass(frozen=True)
class Lead:
    """The first row of a group of rivals, with those that share its place; `note` says so, or that it has no rivals.
    `ahead` is its difference from the reference row, `base`."""

    group: str
    names: str
    note: str
    row: str
    score: str
    interval: str
    chance: str
    base: str
    ahead: str
    against: str
    cost: str


def list_leads(board: Board) -> list[Lead]:
    """Who leads each group of rivals."""
    groups = {group: [row for row in rows if row.rank] for group, rows in group_rows(board).items()}
    return [_find_lead(board, group, rows) for group, rows in groups.items() if rows]


def _find_lead(board: Board, group: str, rows: Sequence[Row]) -> Lead:
    # Over different images, each row may be beaten by some other: then none is first.
    first = [row for row in rows if row.rank and row.rank.best == 1] or list(rows)
    top, base = first[0], board.reference(first[0])
    assert top.standing is not None
    mine = top.standing.value
    theirs = base.standing.value if base and base.standing and base is not top else None
    there = difference(mine, theirs) if theirs and theirs.value is not None else None
    ahead = ""
    if there and theirs:
        # Between the printed numbers: a reader may subtract them.
        ahead = f"{round(mine.value or 0.0, 3) - round(theirs.value or 0.0, 3):+.3f}"
        ahead += " [{:+.2f}, {:+.2f}]".format(*there.ci95) if there.ci95 else ""
    more = len(first) - NAMED
    names = " and ".join(
        filter(None, [", ".join(_name(board, row) for row in first[:NAMED]), f"{more} more" * (more > 0)])
    )
    level = board.share_of(board.chance) or board.chance
    reference = "the reference" if base is top else ""
    if base and theirs and theirs.value is not None:
        reference = f"{label_row(board, base)}: {format_value(theirs)}"
    return Lead(
        group=group,
        names=names,
        note="share first place" if len(first) > 1 else "the only ranked row" if len(rows) == 1 else "",
        row=top.name,
        score=format_value(mine),
        interval="[{:.2f}, {:.2f}]".format(*mine.ci95) if mine.ci95 else "",
        chance=board.cell(top, level).text if level else "",
        base=reference,
        ahead=ahead,
        against=_tell_price(board, top, find_against(board)),
        cost=_tell_price(board, top, find_cost(board)),
    )


def _name(board: Board, row: Row) -> str:
    source, _ = describe_source(board, row)
    return label_row(board, row) + (f" ({source})" if source else "")


def _tell_price(board: Board, row: Row, column: Column | None) -> str:
    cell = board.cell(row, column) if column else Cell()
    there = f" ({cell.difference.value:+.3f})" if cell.difference else ""
    return f"{cell.text}{there}" if cell.value is not None else ""


def split_about(text: str) -> tuple[str, str]:
    """The first sentence or two of what a board is about, and the rest."""
    sentences = re.split(r"(?<=[.?!])\s+(?=[A-Z0-9])", text)
    first = 2 if len(" ".join(sentences[:2])) <= FIRST else 1
    return " ".join(sentences[:first]), " ".join(sentences[first:])


def tell_evidence(board: Board) -> str:
    """What the numbers of a board rest on: training, images and seeds; who ran what; and when it was published."""
    words = Counter(describe_source(board, row)[0] or "run by the suite" for row in board.rows)
    sources = ", ".join(f"{count:,} {word}" for word, count in words.items()) if len(words) > 1 else "".join(words)
    dates = sorted(meta.published for meta in board.submissions.values() if meta.published)
    span = " to ".join(dict.fromkeys([dates[0], dates[-1]])) if dates else ""
    every = "all " * (len(words) == 1 < len(board.rows))
    rows = f"{len(board.rows):,} row{'s' * (len(board.rows) != 1)}, {every}{sources}." if board.rows else ""
    return " ".join(
        filter(None, [describe_scale(board), rows, _tell_unranked(board), f"Published {span}." if span else ""])
    )


def _tell_unranked(board: Board) -> str:
    """Why rows that stand above the leader in the picture do not lead."""
    score, rows = board.protocol.score, [row for row in board.rows if not row.control and (row.missing or row.loses)]
    if score is None:
        return ""
    lost, parts = sum(not row.missing for row in rows), []
    if lost:
        words = "does not lead, since it loses" if lost == 1 else "do not lead, since they lose"
        parts.append(f"{lost:,} {words} more than {score.guard:g} of {board.protocol.name(score.against)}.")
    if unranked := len(rows) - lost:
        parts.append(f"{unranked:,} {'is' if unranked == 1 else 'are'} not ranked; the table's notes say why.")
    return " ".join(parts)
