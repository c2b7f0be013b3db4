"""Compares published records with those of a new run, image by image. Uses neither torch nor plugins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from bench.boards.cell import COSTS
from bench.boards.protocol import Protocol
from bench.boards.record import Range, Record
from bench.boards.submissions.attachments import Values
from bench.shapes import quote

COMPARED = "values, undefined and kept images, flags, objective, direction, unit and range"
DESCRIPTIONS = ("better", "unit", "range")  # not the texts, which may improve without a new version
# By how many times single images may differ by more than their mean, on average, since their differences cancel in it.
# Another number of threads gives 1.6 times the tolerance on the board shapes-quick, with correlations from 0.58.
PER_IMAGE = 2.5
RELATED = 0.3  # correlation over images, from which on values that differ by more than the tolerance are of one run
UNBOUNDED = 0.05  # share of images that may be kept or undefined in one run alone, for a metric without a range
ROUNDING = 1e-9


class Run(NamedTuple):
    """A record, and the values of its images; None where it has none."""

    record: Record
    values: Values | None


def compare_runs(protocol: Protocol, published: Iterable[Run], again: Mapping[str, Run]) -> dict[str, list[str]]:
    """By the key of each published record, what a new run does not confirm, a line for each thing.

    Means may be off by the board's tolerance, and single images by PER_IMAGE times as much on average. Costs are not
    compared.
    """
    return {
        old.record.key: [f"{_name(old.record)}: {text}" for text in _compare(protocol, old, again.get(old.record.key))]
        for old in published
    }


def find_new_flags(published: Iterable[Run], again: Mapping[str, Run]) -> dict[str, list[str]]:
    """By the key of a published record, the flags that a new run raises and it does not have, a line for each.

    Flags differ by what they are about: their figures may differ. A flag more harms nobody but who publishes it.
    """
    found = {}
    for record, _ in published:
        known = {flag.partition(":")[0] for flag in record.flags}
        flags = again[record.key].record.flags if record.key in again else ()
        if new := [flag for flag in flags if flag.partition(":")[0] not in known]:
            found[record.key] = [f"{_name(record)}: flag {quote(f, 80)}: computed, but not published" for f in new]
    return found


def _name(record: Record) -> str:
    shown = ("defense", "explainer", "attack", "ball", "seed")
    return f"{record.metric} of " + ", ".join(f"{a} {record.axes[a]}" for a in shown if a in record.axes)


def _compare(protocol: Protocol, old: Run, new: Run | None) -> Iterator[str]:
    if new is None:
        yield "published, but no longer part of the board's protocol; publish the board again"
        return
    mine, theirs = old.record, new.record
    for part in DESCRIPTIONS:
        stated, computed = getattr(mine, part), getattr(theirs, part)
        if stated != computed:
            yield f"{part}: published {quote(stated, 60)}, computed {quote(computed, 60)}"
    if theirs.unit in COSTS:
        return
    allowed = protocol.allowed(mine.metric)
    if mine.value is None or theirs.value is None:
        if mine.value is not theirs.value:
            yield f"published {mine.value}, computed {theirs.value}"
    elif abs(mine.value - theirs.value) > allowed + ROUNDING:
        yield f"published {mine.value:.4f}, computed {theirs.value:.4f}; the tolerance is {allowed:g}"
    share = _share_of_images(allowed, theirs.range)
    if old.values is None or new.values is None:
        if old.values is not new.values:
            which = "published" if old.values is None else "computed"
            yield f"values of images: none {which}"
    else:
        yield from _compare_images(old.values, new.values, allowed, PER_IMAGE * share)
    yield from _compare_objectives(mine.objective, theirs.objective, PER_IMAGE * share)


def _share_of_images(allowed: float, bounds: Range) -> float:
    """A tolerance as a share of images: as many as would move the mean by it, each from one bound to the other."""
    low, high = bounds
    if low is None or high is None:
        return UNBOUNDED if allowed else 0.0
    return allowed / (high - low)


def _compare_images(mine: Values, theirs: Values, allowed: float, share: float) -> Iterator[str]:
    """`allowed` is the tolerance of the mean, `share` that of the images kept or undefined in one run alone."""
    if mine.names != theirs.names or not np.array_equal(mine.images, theirs.images):
        yield "images or levels: others are published than computed"
        return
    apart = np.abs(mine.values - theirs.values)
    gone = np.isnan(mine.values) != np.isnan(theirs.values)
    both = apart[~np.isnan(apart)]
    figures = [
        ("values of images: mean difference", both.mean() if both.size else 0.0, PER_IMAGE * allowed),
        ("images undefined in one run alone: share", gone.any(1).mean(), share),
    ]
    if mine.kept is not None and theirs.kept is not None:
        figures.append(("images kept in one run alone: share", (mine.kept != theirs.kept).mean(), share))
    elif mine.kept is not theirs.kept:
        yield "kept images: known in one run alone"
    for what, figure, limit in figures:
        if figure > limit + ROUNDING:
            yield f"{what} {figure:.4f}; the tolerance is {limit:g}"
    if both.size and both.mean() > allowed and (related := _correlate(mine.values, theirs.values)) < RELATED:
        yield f"values of images: correlation {related:.2f} with those computed; at least {RELATED:g} is required"


def _correlate(mine: np.ndarray, theirs: np.ndarray) -> float:
    """The correlation over images of two tables of values, each image's mean over levels; 0 where one is constant."""
    rows = [values.mean(1) for values in (mine, theirs)]
    defined = ~np.isnan(rows[0] + rows[1])
    one, other = (row[defined] - row[defined].mean() for row in rows)
    length = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / length) if length else 0.0


def _compare_objectives(mine: Mapping[str, float], theirs: Mapping[str, float], share: float) -> Iterator[str]:
    """`share` is the tolerance of the success, and of the other parts in proportion to the larger of them."""
    if mine.keys() != theirs.keys():
        yield f"objective: published {quote(dict(mine))}, computed {quote(dict(theirs))}"
        return
    scale = max((abs(value) for part, value in theirs.items() if part != "success"), default=0.0)
    for part, value in theirs.items():
        limit = share * (1.0 if part == "success" else scale)
        if abs(mine[part] - value) > limit + ROUNDING:
            yield f"objective {part}: published {mine[part]:.4g}, computed {value:.4g}; the tolerance is {limit:.2g}"
