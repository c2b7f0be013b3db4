"""What figures share: a drawing, its numbers, and how rows are named and coloured."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.axes import AXES

if TYPE_CHECKING:
    from bench.publishing.figures.plot import Plot

SIZE = 3.4  # inches, of a panel
ACROSS = 3  # panels that stand side by side
STYLES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Drawing:
    """A figure, and the numbers that it shows."""

    plot: Plot
    rows: list[dict[str, Any]]

    @property
    def png(self) -> bytes:
        """The figure as a PNG, the same for the same drawing."""
        return self.plot.as_png()

    def as_text(self, ending: str) -> str:
        """The numbers as ".json" or ".csv"."""
        if ending == ".json":
            return json.dumps(self.rows, indent=1) + "\n"
        stream = io.StringIO()
        writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in self.rows for name in row)))
        writer.writeheader()
        writer.writerows(self.rows)
        return stream.getvalue()


def make_panels(rows: int, columns: int, width: float = SIZE, height: float = SIZE) -> tuple[Plot, Any]:
    """A figure and its axes, (rows, columns)."""
    from bench.publishing.figures.plot import Plot

    plot = Plot(figsize=(width * columns, height * rows), dpi=110, layout="constrained")
    return plot, plot.subplots(rows, columns, squeeze=False)


def make_row(count: int) -> tuple[Plot, list[Any]]:
    """A figure and its axes: a panel for each of so many things, at most ACROSS side by side."""
    plot, axes = make_panels(-(-count // ACROSS), min(count, ACROSS))
    for axis in axes.flat[count:]:
        axis.remove()
    return plot, list(axes.flat[:count])


def name_rows(rows: Sequence[Mapping[str, str]], default: Sequence[str] = ("defense",)) -> list[str]:
    """A name for each row: what it has along the axes where those that have them differ, or else along the default.

    A surrogate that is the row's explainer is not named twice.
    """
    differing = [axis for axis in AXES if len({row[axis] for row in rows if axis in row}) > 1]
    names = []
    for row in rows:
        shown = [axis for axis in differing if axis in row] or default
        same = "explainer" in shown and row.get("explainer") == row.get("surrogate")
        names.append(", ".join(row[axis] for axis in shown if axis in row and not (same and axis == "surrogate")))
    return names


def plain(text: str) -> str:
    """A text for matplotlib, which takes what lies between two dollars for a formula."""
    return text.replace("$", r"\$")


def add_legend(figure: Plot) -> None:
    """Name the lines of all panels below them, each name once."""
    named: dict[str, Any] = {}
    for axis in figure.axes:
        handles, labels = axis.get_legend_handles_labels()
        named.update(zip(labels, handles, strict=True))
    if named:
        figure.legend(named.values(), named, loc="outside lower center", fontsize=8, frameon=False)
