"""Flags white-box attacks that a blind attack beats. Uses neither torch nor plugins."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from bench.boards.record import Record
from bench.boards.statistics import difference_range, interval

# By the key of a record: the value of each image, None where undefined, and whether its prediction was kept.
Images = Mapping[str, Sequence[tuple[float | None, bool | None]]]


def flag_beaten(
    records: Iterable[Record],
    images: Images,
    standard: str = "",
    ceiling: str = "",
    may_speak: Callable[[Record, Record], bool] = lambda other, record: True,
) -> list[Record]:
    """The records, with a flag on each white-box attack on a map's own explainer that noise, a transfer or a black-box
    attack beats in the same metric and budget: on the images whose prediction both keep, the 95% interval of the mean
    difference is on its side of zero.

    The attack of the score, `standard`, is taken as white-box, though it may follow more than one objective; that of
    the ceiling beats nothing. `may_speak` says whether a record may speak against another.
    """

    def is_white_box(record: Record) -> bool:
        followed = bool(record.objective) or record.axes["attack"] == standard
        return followed and record.axes["surrogate"] == record.axes["explainer"]

    arms: dict[tuple[str, str], list[Record]] = {}
    records = list(records)
    for record in records:
        # A score that depends on an explainer is a score of maps; an attack on maps does not aim at an accuracy.
        if not {"explainer", "attack"} <= set(record.axes) or record.axes["attack"] == ceiling:
            continue
        if not record.axes["ball"].endswith(":0"):
            rest = {axis: text for axis, text in record.axes.items() if axis not in ("attack", "surrogate")}
            arms.setdefault((record.metric, str(sorted(rest.items()))), []).append(record)
    flags: dict[str, tuple[str, ...]] = {}
    for arm in arms.values():
        blind = [other for other in arm if not is_white_box(other) and other.axes["attack"] != standard]
        for record in filter(is_white_box, arm):
            others = [other for other in blind if may_speak(other, record) and _beats(other, record, images)]
            if others:
                names = ", ".join(sorted({other.axes["attack"] for other in others}))
                flags[record.key] = (f"unreliable: moved further by {names}",)
    return [dataclasses.replace(record, flags=(*record.flags, *flags.get(record.key, ()))) for record in records]


def _beats(other: Record, record: Record, images: Images) -> bool:
    mine, others = images.get(record.key, ()), images.get(other.key, ())
    if len(others) != len(mine):
        return False
    sign = 1 if record.better == "higher" else -1
    differences = [
        sign * (value - theirs)
        for (theirs, kept_there), (value, kept_here) in zip(others, mine, strict=True)
        if kept_there and kept_here and theirs is not None and value is not None
    ]
    if len(differences) < 2:
        return False
    ci95 = interval(math.fsum(differences) / len(differences), [differences], difference_range(record.range))
    return ci95 is not None and ci95[0] > 0
