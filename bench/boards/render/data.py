"""Boards as data: table.csv, board.json, and table.tex for a paper."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable
from typing import TypeAlias

from tabulate import tabulate

from bench.boards.board import ROW, Board, Row, devices
from bench.boards.cell import Cell
from bench.boards.columns import Column
from bench.boards.render.escape import escape_formula, strip_controls
from bench.boards.render.wording import (
    describe_metrics,
    describe_score,
    describe_source,
    format_ranks,
    name_axis,
    name_ranks,
    split_heading,
    tell_shown,
)
from bench.boards.statistics import Estimate, Rank

OF_ROWS = (*ROW, "rank", "unguarded", "control", "source")
FIELDS = (
    *OF_ROWS, "metric", "attack", "ball", "seeds", "value", "ci95_low", "ci95_high", "value_kept", "difference",
    "difference_low", "difference_high", "n", "kept", "undefined", "lost", "under", "unit", "better", "device", "flags",
)  # fmt: skip


Fields: TypeAlias = dict[str, str | float | int | None]


def render_data(board: Board) -> tuple[str, str]:
    """table.csv, all cells in long form, and board.json, the same numbers for programs."""
    of_rows = [(row, _list_fields(board, row)) for row in board.rows]
    return _write_csv(of_rows), _write_json(board, of_rows)


def _write_csv(of_rows: Iterable[tuple[Row, list[Fields]]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(FIELDS)
    for _, cells in of_rows:
        writer.writerows([format_field(fields[name]) for name in FIELDS] for fields in cells)
    return stream.getvalue()


def _list_fields(board: Board, row: Row) -> list[Fields]:
    """The numbers and words of each cell of a row that has some."""
    of_row: Fields = {
        **{axis: row.axes.get(axis, "") for axis in ROW},
        "rank": str(row.rank or ""),
        "unguarded": str(row.unguarded or ""),
        "control": "control" if row.control else "",
        "source": describe_source(board, row)[0],
    }
    cells = [(column, board.cell(row, column)) for column in board.columns]
    return [of_row | _read_fields(column, cell, cell.estimate) for column, cell in cells if cell.estimate]


def _read_fields(column: Column, cell: Cell, estimate: Estimate) -> Fields:
    there = cell.difference
    records = estimate.records
    low, high = estimate.ci95 or (None, None)
    difference_low, difference_high = (there.ci95 if there else None) or (None, None)
    values = [value for images in estimate.images.values() for value in images]
    n, undefined, kept = len(values), values.count(None) + estimate.lost, None
    # The images that every budget or attack keeps are not the same ones: a derived column has no mean over these.
    values_kept: list[float] = []
    if not column.derived:
        n, undefined = sum(r.n for r in records), sum(r.undefined for r in records)
        kept = _sum_known(r.kept for r in records)
        values_kept = [r.value_kept for r in records if r.value_kept is not None]
    return {
        **vars(column),
        "seeds": " ".join(dict.fromkeys(r.axes.get("seed", "") for r in records)).strip(),
        "value": estimate.value,
        "ci95_low": low,
        "ci95_high": high,
        "value_kept": math.fsum(values_kept) / len(records) if len(values_kept) == len(records) else None,
        "difference": there.value if there else None,
        "difference_low": difference_low,
        "difference_high": difference_high,
        "n": n,
        "kept": kept,
        "undefined": undefined,
        "lost": estimate.lost,
        "under": estimate.under,
        "unit": records[0].unit,
        "better": records[0].better,
        "device": "; ".join(devices(records)),
        "flags": "; ".join(sorted({flag for r in records for flag in r.flags})),
    }


def _sum_known(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def format_field(value: str | float | None) -> str:
    if isinstance(value, str):
        return escape_formula(value)
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.6g}"


def _write_json(board: Board, of_rows: Iterable[tuple[Row, list[Fields]]]) -> str:
    content = {
        "name": board.name,
        "title": board.protocol.title,
        "about": board.protocol.about,
        "score": dataclasses.asdict(board.score) if board.score else None,
        "measured": dataclasses.asdict(board.measured) if board.measured else None,
        "ceiling": dataclasses.asdict(board.ceiling) if board.ceiling else None,
        "chance": dataclasses.asdict(board.chance) if board.chance else None,
        "metrics": [{"metric": m, "better": better, "help": text} for m, better, text in describe_metrics(board)],
    }
    rows = [
        {
            "name": row.name,
            "axes": row.axes,
            "rank": _list_ends(row.rank),
            "unguarded": _list_ends(row.unguarded),
            "control": row.control,
            "source": describe_source(board, row)[0],
            "missing": row.missing,
            "loses": row.loses,
            "entries": [
                {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in fields.items() if k not in OF_ROWS}
                for fields in cells
            ],
        }
        for row, cells in of_rows
    ]
    # A row a line: indented, 5,000 rows would take the encoder that is written in Python, and a minute.
    lines = ",\n".join(json.dumps(row, sort_keys=True, allow_nan=False) for row in rows)
    head = json.dumps(content, indent=1, sort_keys=True, allow_nan=False).removesuffix("\n}")
    return f'{head},\n "rows": [\n{lines}\n ]\n}}\n'


def _list_ends(rank: Rank | None) -> list[int] | None:
    return [rank.best, rank.last] if rank else None


def render_latex(board: Board) -> str:
    """table.tex: the short table, for a paper; of a large board, the rows that its page begins with."""
    title = strip_controls(board.protocol.title or board.name).replace("%", "")
    comment = f"% {title}. Generated by bench leaderboard build; needs booktabs, and T1 fonts for | and quotes.\n"
    if not board.rows:
        return comment
    about = [*tell_shown(board), *describe_score(board)]
    comment += "".join(f"% {strip_controls(line)}\n" for line in about)
    names = [*name_ranks(board), *board.naming]
    lines = [[*names, *(", ".join(split_heading(board, column)) for column in board.summary)]]
    for row in board.leading:
        source, _ = describe_source(board, row)
        first = [*format_ranks(board, row), *(name_axis(board, row, axis) for axis in board.naming)]
        if source and first:
            first[-1] += f" ({source})"
        lines.append([*first, *(board.cell(row, column).format(str) for column in board.summary)])
    lines = [[strip_controls(text) for text in line] for line in lines]
    sides = ["left"] * len(names) + ["right"] * len(board.summary)
    # The format escapes what LaTeX would run.
    table = tabulate(lines[1:], lines[0], tablefmt="latex_booktabs", disable_numparse=True, colalign=sides)
    return f"{comment}{table}\n"
