"""Figures of scores: over budgets, parameters and levels, by seed, and from one explainer to another."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from bench.boards import Curve, Estimate, Record, average_levels, estimate, find_curves, quick_protocol
from bench.boards.submissions.attachments import Values
from bench.engine import Cell
from bench.errors import BadValue
from bench.publishing.figures.canvas import STYLES, Drawing, add_legend, make_panels, make_row, name_rows, plain

BINS = 20


@dataclass(frozen=True)
class Scores:
    """Cells with their records, each key once, and by key the values of images.

    `over`: the axis, or "metric", along which a component has the parameters `varied`.
    """

    pairs: list[tuple[Cell, Record]]
    values: Mapping[str, Values]
    over: str
    varied: tuple[str, ...]

    @functools.cached_property
    def images(self) -> dict[str, list[float | None]]:
        return average_levels(self.values)


@dataclass(frozen=True)
class Group:
    """Cells and records that differ along some axes alone; `axes` has what they share, `name` what sets them apart from
    the other groups."""

    metric: str
    better: str
    axes: dict[str, str]
    pairs: list[tuple[Cell, Record]]
    name: str = ""

    def numbers(self, value: Any) -> dict[str, Any]:
        """A row of the data: what the group shares, and a value, or an estimate with its interval."""
        shown = {"value": value}
        if isinstance(value, Estimate):
            low, high = value.ci95 or (None, None)
            shown = {"value": value.value, "low": low, "high": high}
        return {"metric": self.metric, **self.axes, **shown}


def _group(scores: Scores, *apart: str) -> list[Group]:
    """The groups of cells that differ along `apart` alone; "metric" stands for a metric's parameters."""
    found: dict[Any, list[tuple[Cell, Record]]] = {}
    for cell, record in scores.pairs:
        metric = cell.metric.name if "metric" in apart else record.metric
        axes = tuple((axis, text) for axis, text in record.axes.items() if axis not in apart)
        found.setdefault((metric, axes), []).append((cell, record))
    names = name_rows([dict(axes) for _, axes in found])
    return [
        Group(metric, pairs[0][1].better, dict(axes), pairs, name)
        for ((metric, axes), pairs), name in zip(found.items(), names, strict=True)
    ]


def draw_curves(curves: Sequence[Curve]) -> Drawing:
    """Draw scores over budgets with their 95% intervals, a panel for each metric and norm."""
    panels = list(dict.fromkeys((curve.metric, curve.norm) for curve in curves))
    figure, axes = make_row(len(panels))
    names, rows = name_rows([curve.axes for curve in curves]), []
    for curve, name in zip(curves, names, strict=True):
        axis = axes[panels.index((curve.metric, curve.norm))]
        points = {float(Fraction(eps)): part for eps, part in curve.points.items()}
        _draw_line(axis, points, name, color=_colour(name, names))
        axis.set_xticks(list(points), list(curve.points), rotation=45)
        axis.set_xlabel(f"eps ({curve.norm})")
        axis.set_ylabel(_title(curve.metric, curve.better))
        group = Group(curve.metric, curve.better, curve.axes, [])
        rows += [{**group.numbers(part), "ball": f"{curve.norm}:{eps}"} for eps, part in curve.points.items()]
    add_legend(figure)
    return Drawing(figure, rows)


def draw_budgets(scores: Scores) -> Drawing:
    """Each metric over the budgets, with 95% intervals."""
    curves = find_curves([record for _, record in scores.pairs], scores.images)
    if not curves:
        raise BadValue("figure budgets: no score here has several budgets; give two as eps, such as 2/255 and 4/255")
    return draw_curves(curves)


def draw_sweep(scores: Scores) -> Drawing:
    """Each metric over the values of a parameter, which --vary names; those of --over metric share a panel."""
    if len(scores.varied) != 1:
        raise BadValue("figure sweep: vary one parameter, such as l2=0.01,0.1, and say over which axis it lies")
    over, parameter = scores.over, scores.varied[0]
    groups = _group(scores, over, "seed")
    metrics, names = list(dict.fromkeys(g.metric for g in groups)), [g.name for g in groups]
    is_shared = over == "metric"
    figure, axes = make_row(1 if is_shared else len(metrics))
    rows = []
    for group in groups:
        place = metrics.index(group.metric)
        axis = axes[0 if is_shared else place]

        def read(cell: Cell, record: Record) -> Any:
            return getattr(cell.metric if is_shared else getattr(cell.case, over), parameter, None)

        parts = {float(at): part for at, part in _estimate_by(group, scores, read).items() if at is not None}
        points = dict(sorted(parts.items()))
        name = f"{group.metric}, {group.name}" if is_shared else group.name
        _draw_line(axis, points, name, color=_colour(group.name, names), linestyle=STYLES[is_shared * place % 4])
        axis.set_xlabel(plain(parameter))
        axis.set_ylabel("" if is_shared else _title(group.metric, group.better))
        rows += [{**group.numbers(part), parameter: at} for at, part in points.items()]
    for axis in axes:
        _widen(axis, is_shared)
    add_legend(figure)
    return Drawing(figure, rows)


def draw_levels(scores: Scores) -> Drawing:
    """Each metric that has levels over them, such as shares of pixels, or layers with new weights."""
    groups = [group for group in _group(scores, "seed") if group.pairs[0][1].levels]
    if not groups:
        raise BadValue("figure levels: no metric here has levels; bench show metric:NAME says which has")
    metrics, names = list(dict.fromkeys(g.metric for g in groups)), [g.name for g in groups]
    figure, axes = make_row(len(metrics))
    rows = []
    for group in groups:
        axis = axes[metrics.index(group.metric)]
        names_of_levels = scores.values[group.pairs[0][1].key].names  # in their order, which a record does not keep
        means = {level: _mean([record.levels.get(level) for _, record in group.pairs]) for level in names_of_levels}
        axis.plot(list(means), [math.nan if mean is None else mean for mean in means.values()],
                  color=_colour(group.name, names), label=plain(group.name))  # fmt: skip
        step = max(1, len(means) // 8)
        axis.set_xticks(range(0, len(means), step), [plain(level) for level in list(means)[::step]], rotation=60)
        axis.set_ylabel(_title(group.metric, group.better))
        rows += [{**group.numbers(mean), "level": level} for level, mean in means.items()]
    add_legend(figure)
    return Drawing(figure, rows)


def draw_seeds(scores: Scores) -> Drawing:
    """Each metric of each row: a point for each seed, and a bar at their mean."""
    groups = [group for group in _group(scores, "seed") if "seed" in group.pairs[0][1].axes]
    if not groups:
        raise BadValue("figure seeds: no score here depends on the seed; give another metric")
    metrics, names = list(dict.fromkeys(g.metric for g in groups)), [g.name for g in groups]
    figure, axes = make_row(len(metrics))
    rows = []
    for group in groups:
        axis, colour = axes[metrics.index(group.metric)], _colour(group.name, names)
        values = {record.axes["seed"]: record.value for _, record in group.pairs}
        known = [value for value in values.values() if value is not None]
        place = list(dict.fromkeys(names)).index(group.name)
        axis.plot([place] * len(known), known, "o", color=colour, alpha=0.5)
        axis.plot([place], [_mean(known)] if known else [math.nan], "_", color=colour, markersize=24)
        axis.set_xticks(range(len(set(names))), [plain(n) for n in dict.fromkeys(names)], rotation=30, ha="right")
        axis.set_xlim(-0.5, len(set(names)) - 0.5)
        axis.set_ylabel(_title(group.metric, group.better))
        rows += [{**group.numbers(value), "seed": seed} for seed, value in values.items()]
    return Drawing(figure, rows)


def draw_transfers(scores: Scores) -> Drawing:
    """Each metric of every --explainer, under attacks that followed every --surrogate."""
    from matplotlib.patheffects import withStroke

    pair = ("surrogate", "explainer")
    groups = [group for group in _group(scores, "seed", *pair) if set(pair) <= set(group.pairs[0][1].axes)]
    if not groups:
        raise BadValue("figure transfers: no score here compares maps under attack; give another metric")
    figure, axes = make_row(len(groups))
    rows = []
    for axis, group in zip(axes, groups, strict=True):
        parts = _estimate_by(group, scores, lambda cell, record: tuple(record.axes[each] for each in pair))
        followed, shown = (list(dict.fromkeys(key[side] for key in parts)) for side in (0, 1))
        values = [[math.nan] * len(shown) for _ in followed]
        for (surrogate, explainer), part in parts.items():
            x, y = shown.index(explainer), followed.index(surrogate)
            values[y][x] = math.nan if part.value is None else part.value
            axis.text(x, y, f"{values[y][x]:.2f}", ha="center", va="center", fontsize=8, color="white",
                      path_effects=[withStroke(linewidth=2, foreground="black")])  # fmt: skip
            rows.append({**group.numbers(part), "surrogate": surrogate, "explainer": explainer})
        axis.imshow(values, cmap="viridis")
        axis.set_xticks(range(len(shown)), map(plain, shown), rotation=40, ha="right")
        axis.set_yticks(range(len(followed)), map(plain, followed))
        axis.set_xlabel("explainer")
        axis.set_ylabel("the attack followed")
        is_alone = [each.metric for each in groups].count(group.metric) == 1
        axis.set_title(plain(group.metric if is_alone else f"{group.metric}, {group.name}"), fontsize=9)
    return Drawing(figure, rows)


def draw_tradeoff(scores: Scores) -> Drawing:
    """Each metric of maps under attack against accuracy, and against the seconds of training or, where nothing was
    trained, of explaining; with 95% intervals."""
    rule = quick_protocol().score
    useful = rule.against if rule else ""
    every = _group(scores, "seed")
    groups = [group for group in every if {"surrogate", "explainer"} <= set(group.axes)]
    found = [_find_beside(group, [other for other in every if other.metric == useful]) for group in groups]
    sides = [side for side in found if side]
    if not groups or len(sides) < len(groups):
        raise BadValue(f"figure tradeoff: give the metric {useful} and one that compares maps under attack")
    metrics, names = list(dict.fromkeys(g.metric for g in groups)), [g.name for g in groups]
    spent = "trained" if any(_sum_seconds(group, "trained") for group in groups) else "clean_attributions"
    figure, axes = make_panels(len(metrics), 2)
    rows = []
    for group, side in zip(groups, sides, strict=True):
        panels, seconds = axes[metrics.index(group.metric)], _sum_seconds(group, spent)
        score, against = _estimate(group, scores), _estimate(side, scores)
        for axis, at, bar in ((panels[0], against.value, _bar(against)), (panels[1], seconds, None)):
            if score.value is not None and at is not None:
                axis.errorbar(at, score.value, _bar(score), bar, "o", capsize=2, color=_colour(group.name, names),
                              label=plain(group.name))  # fmt: skip
            axis.set_ylabel(_title(group.metric, group.better))
        panels[0].set_xlabel(plain(useful))
        panels[1].set_xlabel(f"seconds of {'training' if spent == 'trained' else 'explaining'}")
        rows.append({**group.numbers(score), useful: against.value, "seconds": seconds})
    add_legend(figure)
    return Drawing(figure, rows)


def _find_beside(group: Group, others: Sequence[Group]) -> Group | None:
    """The group whose axes are all among those of another."""
    return next((other for other in others if other.axes.items() <= group.axes.items()), None)


def _sum_seconds(group: Group, name: str) -> float:
    """The seconds that a stored value took, as a mean over the seeds."""
    return math.fsum(record.cost.get(name, 0.0) for _, record in group.pairs) / len(group.pairs)


def _bar(part: Estimate) -> list[list[float]] | None:
    """How far an interval reaches below and above, for error bars."""
    if part.value is None or part.ci95 is None:
        return None
    return [[max(0.0, part.value - part.ci95[0])], [max(0.0, part.ci95[1] - part.value)]]


def draw_histograms(scores: Scores) -> Drawing:
    """How many images have which value of each metric, over all seeds; above, the means with their 95% intervals."""
    groups = [group for group in _group(scores, "seed") if len(_list_values(group, scores)) > 1]
    if not groups:
        raise BadValue("figure histograms: no metric here has a value for each image; give another metric")
    metrics, names = list(dict.fromkeys(g.metric for g in groups)), [g.name for g in groups]
    together: dict[str, list[float]] = {metric: [] for metric in metrics}
    for group in groups:
        together[group.metric] += _list_values(group, scores)
    figure, axes = make_row(len(metrics))
    rows: list[dict[str, Any]] = []
    for group in groups:
        axis, part, colour = axes[metrics.index(group.metric)], _estimate(group, scores), _colour(group.name, names)
        counts, edges = np.histogram(_list_values(group, scores), np.histogram_bin_edges(together[group.metric], BINS))
        axis.stairs(counts, edges, color=colour, label=plain(group.name))
        if part.value is not None:  # above the panel, one above the other
            line = 1.04 + 0.04 * sum(row["metric"] == group.metric for row in rows) / BINS
            axis.errorbar(part.value, line, xerr=_bar(part), fmt="o", markersize=3, capsize=2, color=colour,
                          transform=axis.get_xaxis_transform(), clip_on=False)  # fmt: skip
        axis.set_xlabel(_title(group.metric, group.better))
        axis.set_ylabel("images")
        bins = zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        rows += [{**group.numbers(count), "from": low, "to": high} for count, low, high in bins]
    add_legend(figure)
    return Drawing(figure, rows)


def _list_values(group: Group, scores: Scores) -> list[float]:
    """The defined values of a group's images, over all seeds."""
    return [value for _, record in group.pairs for value in scores.images.get(record.key, ()) if value is not None]


def _estimate(group: Group, scores: Scores) -> Estimate:
    return estimate([record for _, record in group.pairs], scores.images)


def _estimate_by(group: Group, scores: Scores, read: Callable[[Cell, Record], Any]) -> dict[Any, Estimate]:
    """The mean over the seeds of a group's records by what `read` says of each."""
    records: dict[Any, list[Record]] = {}
    for cell, record in group.pairs:
        records.setdefault(read(cell, record), []).append(record)
    return {each: estimate(those, scores.images) for each, those in records.items()}


def _draw_line(axis: Any, points: Mapping[float, Estimate], name: str, **style: Any) -> None:
    """Draw estimates with a band for their intervals; what is undefined leaves a gap."""
    values = [math.nan if part.value is None else part.value for part in points.values()]
    bands = [part.ci95 or (value, value) for part, value in zip(points.values(), values, strict=True)]
    axis.plot(list(points), values, marker="o", markersize=3, label=plain(name), **style)
    axis.fill_between(list(points), *zip(*bands, strict=True), color=style["color"], alpha=0.15, linewidth=0)


def _widen(axis: Any, vertical: bool) -> None:
    """Make an axis logarithmic along which the points span more than a factor of thirty."""
    for side in ("x", "y") if vertical else ("x",):
        values = [float(value) for line in axis.lines for value in getattr(line, f"get_{side}data")()]
        known = [value for value in values if not math.isnan(value)]
        if known and min(known) > 0 and max(known) > 30 * min(known):
            getattr(axis, f"set_{side}scale")("log")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def _colour(name: str, names: Sequence[str]) -> str:
    return f"C{list(dict.fromkeys(names)).index(name)}"


def _title(metric: str, better: str) -> str:
    return plain(f"{metric}\n({better} is better)")
