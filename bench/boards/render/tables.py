"""Tables of text: plain ones for pipes and files, and ones that fit a terminal."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Collection, Sequence
from typing import Literal

from tabulate import tabulate

GAP = 2  # spaces between columns
NARROW = 20  # characters down to which a column of words is not wrapped, if it can be helped


def draw_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    rigid: Collection[int] = (),
    right: Collection[int] = (),
) -> str:
    """A table of texts. With a width, it fits a terminal of that many characters, by wrapping cells, and has colours.

    `rigid` are the places of columns that are not wrapped, `right` of those that are aligned at the right.
    """
    if width is None:
        sides = ["right" if place in right else "left" for place in range(len(headers))] if rows else ()
        text = tabulate(rows, headers=headers, tablefmt="simple", colalign=sides, disable_numparse=True)
        return "\n".join(line.rstrip() for line in text.splitlines())
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    sizes = measure_columns(headers, rows)
    left = width - sum(sizes[place] for place in rigid) - GAP * len(headers)
    share = max(1, left // max(1, len(headers) - len(rigid)))
    for place, (name, size) in enumerate(zip(headers, sizes, strict=True)):
        least = size if place in rigid else min(size, NARROW, share)
        side: Literal["left", "right"] = "right" if place in right else "left"
        table.add_column(Text(name), justify=side, overflow="fold", no_wrap=place in rigid, min_width=least)
    for row in rows:
        table.add_row(*(Text(cell, style=_choose_style(cell)) for cell in row))
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=True, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def _choose_style(cell: str) -> str:
    return "yellow" if cell.endswith(" *") else "dim" if cell in ("-", "undefined") else ""


def measure_columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """The characters that each column takes when nothing is wrapped."""
    return [max(len(row[place]) for row in (headers, *rows)) for place in range(len(headers))]


def wrap(text: str, width: int | None) -> str:
    """The lines of a text, wrapped to fit a terminal; the text as it is without a width."""
    if width is None:
        return text
    return "\n".join(textwrap.fill(line, width, break_on_hyphens=False) for line in text.split("\n"))
