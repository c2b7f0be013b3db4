"""Which records belong to which row of a board. Uses neither torch nor plugins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bench.boards.columns import Column
from bench.boards.record import Record
from bench.boards.statistics import Estimate, estimate

ROW = ("dataset", "split", "model", "schedule", "defense", "explainer", "surrogate", "target", "samples")
Part = tuple[tuple[str, str], ...]  # some of the axes of a row, with their texts


def part_of(axes: Mapping[str, str], names: Iterable[str] = ROW) -> Part:
    return tuple((axis, axes[axis]) for axis in names if axis in axes)


def find_whole(parts: Iterable[Part]) -> list[Part]:
    """The parts that are no part of another one. Accuracy depends on no explainer: its records belong to every row that
    agrees with the axes they name."""
    by_names: dict[tuple[str, ...], list[Part]] = {}
    for part in parts:
        by_names.setdefault(tuple(axis for axis, _ in part), []).append(part)
    whole = []
    for names, those in by_names.items():
        wider = [other for other in by_names if set(names) < set(other)]
        covered = {part_of(dict(part), names) for other in wider for part in by_names[other]}
        whole += [part for part in those if part not in covered]
    return whole


def find_records(
    axes: Mapping[str, str], by_part: Mapping[Part, Sequence[tuple[int, Record]]], named: Iterable[Sequence[str]]
) -> list[Record]:
    """The records that agree with the axes of a row, in their order."""
    found = [each for names in named for each in by_part.get(part_of(axes, names), ())]
    return [record for _, record in sorted(found, key=lambda each: each[0])]


def gather(records: Iterable[Record], values: Mapping[str, Sequence[float | None]]) -> dict[Column, Estimate]:
    """By column, the estimates from the records of a row."""
    mine: dict[Column, list[Record]] = {}
    for record in records:
        column = Column(record.metric, record.axes.get("attack", ""), record.axes.get("ball", ""))
        mine.setdefault(column, []).append(record)
    return {column: estimate(those, values) for column, those in mine.items()}
