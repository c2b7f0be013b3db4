"""README.md of a board."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tabulate import tabulate

from bench.boards.board import Board, Row
from bench.boards.cell import Cell, is_cost
from bench.boards.columns import WORST, Column
from bench.boards.folder import RECORDS
from bench.boards.protocol import Protocol
from bench.boards.render.escape import escape_markdown, quote_code
from bench.boards.render.wording import (
    compare_with_paper,
    describe_leaders,
    describe_metrics,
    describe_scale,
    describe_score,
    describe_sources,
    format_ranks,
    list_unranked,
    name_axis,
    name_column,
    name_ranked_seeds,
    name_ranks,
    split_heading,
    tell_shown,
    write_legend,
)


def render_readme(board: Board) -> str:
    """README.md: the summary, then attack by attack, and the differences from the reference row."""
    rest = [c for c in board.columns if c not in board.summary and not c.derived]
    over = [c for c in board.columns if c.over and (c.attack == WORST or board.sole(c))]
    shared = board.shared
    parts = [
        f"# {escape_markdown(board.protocol.title or board.name)}",
        escape_markdown(describe_scale(board)),
        escape_markdown(board.protocol.about),
        _write_list(describe_leaders(board)),
        _describe_ranks(board),
        _write_table(board, board.leading, board.summary, _format_cell, ranks=True)
        if board.rows
        else "Protocol only: no records yet.",
        _write_list([*tell_shown(board), *list_unranked(board), *write_legend(board)]),
        "## By attack and budget" if rest else "",
        _write_table(board, board.leading, rest, _format_cell) if rest else "",
        "## Across budgets" if over else "",
        _write_table(board, board.leading, over, _format_cell) if over else "",
        _write_differences(board),
        _write_paper(board),
        "## Columns",
        "\n".join(
            f"- **{escape_markdown(metric)}** ({escape_markdown(better)} is better): {escape_markdown(text)}"
            for metric, better, text in describe_metrics(board)
        ),
        "## Protocol",
        f"The same for all rows: {', '.join(f'{axis} {quote_code(text)}' for axis, text in shared.items())}.",
        _write_list(describe_sources(board.protocol)),
        f"```sh\nbench run --board leaderboards/{board.name}                  # run everything, or resume\n"
        f"bench run --board leaderboards/{board.name} --defense MINE   # run a row of your own; or --explainer MINE\n"
        f"bench leaderboard verify leaderboards/{board.name}           # run it again and compare\n```",
        _describe_tolerance(board.protocol),
        f"`bench leaderboard build` generates this file from `{RECORDS}/`. Every record has the command that gives it.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _write_list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {escape_markdown(line)}" for line in lines)


def _describe_ranks(board: Board) -> str:
    if board.score is None:
        return ""
    within = f", separately for each {' and '.join(board.within)}" if board.within else ""
    return (
        f"Ranked by **{escape_markdown(name_column(board.score))}**{escape_markdown(within)}, over "
        f"{name_ranked_seeds(board)}, which the protocol requires of every row. Rows share ranks where the 95% "
        "interval of their paired difference, image by image, contains zero. Controls, and rows without that score, "
        f"are not ranked. {escape_markdown(' '.join(describe_score(board)))}"
    )


def _write_table(
    board: Board, rows: Sequence[Row], columns: Sequence[Column], write: Callable[[Cell], str], ranks: bool = False
) -> str:
    headers = [*board.naming, *(_write_heading(board, column) for column in columns)]
    body = [[*_write_names(board, row), *(write(board.cell(row, column)) for column in columns)] for row in rows]
    if ranks:
        headers = [*name_ranks(board), *headers]
        body = [[*format_ranks(board, row), *line] for row, line in zip(rows, body, strict=True)]
    return tabulate(body, headers=headers, tablefmt="github", disable_numparse=True)


def _write_heading(board: Board, column: Column) -> str:
    return "<br>".join(map(escape_markdown, split_heading(board, column)))


def _write_names(board: Board, row: Row) -> list[str]:
    return [escape_markdown(name_axis(board, row, axis)) for axis in board.naming]


def _format_cell(cell: Cell) -> str:
    return cell.format(escape_markdown)


def _write_differences(board: Board) -> str:
    """The differences of rows from the reference row, image by image."""
    rows = [row for row in board.leading if board.reference(row) not in (None, row)]
    if not rows:
        return ""
    costs = {column for row in rows for column, estimate in row.estimates.items() if is_cost(estimate)}
    columns = [column for column in board.summary if column not in costs]
    return "\n\n".join(
        [
            "## Differences from the reference row",
            _write_table(board, rows, columns, _format_difference),
            "Mean difference from the reference row, paired by image, over the seeds and images where both have a "
            "value; in brackets its 95% interval. ▲: better, ▼: worse, where the interval does not contain zero.",
        ]
    )


def _format_difference(cell: Cell) -> str:
    there = cell.difference
    if there is None:
        return "-"
    interval = " [{:+.2f}, {:+.2f}]".format(*there.ci95) if there.ci95 else ""
    return f"{there.value:+.3f}{interval}" + {True: " ▲", False: " ▼", None: ""}[there.better]


def _write_paper(board: Board) -> str:
    paper, (columns, rows) = board.protocol.paper, compare_with_paper(board)
    if paper is None or not rows:
        return ""
    headers = [*board.naming, *(f"{_write_heading(board, column)}<br>paper / here" for column in columns)]
    body = [[*_write_names(board, row), *map(escape_markdown, pairs)] for row, pairs in rows]
    table = tabulate(body, headers=headers, tablefmt="github", disable_numparse=True)
    link = f"<{paper.url}>" if re.fullmatch(r"https?://[^\s<>]+", paper.url) else escape_markdown(paper.url)
    source = f"{escape_markdown(paper.source)}: {link}"
    return "\n\n".join(["## Compared with the paper", table, source])


def _describe_tolerance(protocol: Protocol) -> str:
    if not protocol.tolerance:
        return ""
    allowed = ", ".join(f"{value:g} in {quote_code(metric)}" for metric, value in protocol.tolerance.items())
    return f"A new run may differ by at most {allowed}, and not at all in other metrics; costs are not compared."
