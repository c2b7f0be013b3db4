"""White-box attacks that a blind one beats are not to be trusted. Uses neither torch nor plugins."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from bench.boards.record import RESAMPLES, Record, resampled

# By key: the value of each image, None where undefined, and whether its prediction was kept.
Images = Mapping[str, Sequence[tuple[float | None, bool | None]]]


def doubted(records: Iterable[Record], images: Images) -> list[Record]:
    """Records, with a flag on those of white-box attacks on a map's own explainer that noise, a transfer or a black-box
    attack beats in the same metric and budget: on the images whose prediction both keep, the 95% bootstrap interval of
    the mean difference lies on its side of zero."""
    arms: dict[tuple[str, str], list[Record]] = {}
    records = list(records)
    for record in records:
        # What reaches an explainer is a score of maps; an attack on these does not mean to lower an accuracy.
        if {"explainer", "attack"} <= set(record.axes) and not record.axes["ball"].endswith(":0"):
            rest = {axis: text for axis, text in record.axes.items() if axis not in ("attack", "surrogate")}
            arms.setdefault((record.metric, str(sorted(rest.items()))), []).append(record)
    flags: dict[str, tuple[str, ...]] = {}
    for arm in arms.values():
        for record in filter(_white_box, arm):
            better = [
                other.axes["attack"]
                for other in arm
                if not _white_box(other)
                and _beats(other, record, images.get(other.key, ()), images.get(record.key, ()))
            ]
            if better:
                flags[record.key] = (f"not to be trusted: moved further by {', '.join(sorted(set(better)))}",)
    return [dataclasses.replace(record, flags=(*record.flags, *flags.get(record.key, ()))) for record in records]


def _white_box(record: Record) -> bool:
    return bool(record.objective) and record.axes["surrogate"] == record.axes["explainer"]


def _beats(
    other: Record,
    record: Record,
    others: Sequence[tuple[float | None, bool | None]],
    mine: Sequence[tuple[float | None, bool | None]],
) -> bool:
    if len(others) != len(mine):
        return False
    sign = 1 if record.better == "higher" else -1
    differences = [
        sign * (value - theirs)
        for (theirs, kept_there), (value, kept_here) in zip(others, mine, strict=True)
        if kept_there and kept_here and theirs is not None and value is not None
    ]
    if len(differences) < 2 or math.fsum(differences) <= 0:
        return False
    means = resampled(differences, f"{record.key}/{other.key}")
    return means[round(0.025 * (RESAMPLES - 1))] > 0
