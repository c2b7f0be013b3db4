"""The records of a run as a list that is also a table."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from tabulate import tabulate

from bench.axes import AXES
from bench.boards import Record
from bench.boards.render import ALWAYS, find_varying, format_score, write_notes
from bench.engine import Outcome, arrange_records, describe_troubles, format_records
from bench.errors import BadValue, UnknownName, suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pandas import DataFrame

    from bench.boards.submissions.attachments import Values
    from bench.publishing.figures.plot import Plot


class Results(list[Record]):
    """The records of a run, each once, as a list.

    `values` has, by the key of a record, the values (N, L) of its N images at L levels. A notebook shows a table.
    """

    def __init__(self, outcome: Outcome, values: Mapping[str, Values]) -> None:
        super().__init__(outcome.records.values())
        self._outcome, self.values = outcome, values

    def __repr__(self) -> str:
        return "\n".join([format_records(self._outcome) or "no records", *self.troubles])

    def _repr_html_(self) -> str:
        rows = arrange_records(self._outcome)
        varying = find_varying([axes for axes, _ in rows], ALWAYS)
        shared = ", ".join(f"{axis} {text}" for axis, text in (rows or [({}, {})])[0][0].items() if axis not in varying)
        metrics = dict.fromkeys(record.metric for record in self)
        body = [
            [*(axes[axis] for axis in varying), *(format_score(scores.get(metric)) for metric in metrics)]
            for axes, scores in rows
        ]
        table = tabulate(body, headers=[*varying, *metrics], tablefmt="html", disable_numparse=True)
        lines = [shared, *write_notes(self), *self.troubles]
        return str(table) + "".join(f"<p>{escape(line)}</p>" for line in lines)

    @property
    def troubles(self) -> list[str]:
        """What was refused and what failed, one line for each reason."""
        return describe_troubles(self._outcome)

    def plot(
        self, kind: str | None = None, *, metric: str | None = None, over: str = "defense", vary: str | None = None
    ) -> Plot:
        """Draw a figure of scores as `bench figure` does, with 95% intervals: a matplotlib figure.

        kind: "budgets" (over eps), "levels", "sweep" (over the parameter `vary` of the components along `over`),
        "seeds", "transfers" (from surrogates to explainers), "tradeoff" (robustness against accuracy and cost) or
        "histograms" (of images); by default "budgets" where there are several, else "histograms". metric: the one to
        draw, with its parameters; by default all. Raises BadValue where the records do not give the figure.
        """
        from bench.publishing import draw_records

        pairs = [
            (cell, self._outcome.records[cell.key])
            for cell in {cell.key: cell for cell in self._outcome.cells}.values()
            if cell.key in self._outcome.records and metric in (None, str(cell.metric))
        ]
        if not pairs and metric is not None:
            raise UnknownName(f"no record of metric {metric!r}{suggestion(metric, [record.metric for record in self])}")
        if not pairs:
            raise BadValue("there are no records to draw; see `troubles`")
        if kind is None:
            balls = {record.axes["ball"] for _, record in pairs if "ball" in record.axes}
            kind = "budgets" if len(balls) > 1 else "histograms"
        return draw_records(kind, pairs, self.values, over, [] if vary is None else [vary]).plot

    def to_frame(self) -> DataFrame:
        """One row per record: its metric and axes as text, its value, the 95% interval as `low` and `high`, counts."""
        from pandas import DataFrame

        axes = [axis for axis in AXES if any(axis in record.axes for record in self)]
        rows = []
        for record in self:
            low, high = record.ci95 or (None, None)
            rows.append(
                {
                    "metric": record.metric,
                    **{axis: record.axes.get(axis) for axis in axes},
                    "value": record.value,
                    "low": low,
                    "high": high,
                    "value_kept": record.value_kept,
                    "n": record.n,
                    "kept": record.kept,
                    "undefined": record.undefined,
                    "better": record.better,
                    "unit": record.unit,
                    "flags": "; ".join(record.flags),
                    "key": record.key,
                }
            )
        columns = ["metric", *axes, "value", "low", "high", "value_kept", "n", "kept", "undefined", "better", "unit"]
        frame = DataFrame(rows, columns=[*columns, "flags", "key"])
        return frame.astype(dict.fromkeys(("value", "low", "high", "value_kept"), "float64"))
