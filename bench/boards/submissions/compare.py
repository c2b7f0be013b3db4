"""Compares submissions with the board's protocol and with one another. Needs neither torch nor plugins."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from bench.axes import KINDS
from bench.boards.board import ROW
from bench.boards.protocol import Protocol
from bench.boards.record import Record
from bench.boards.submissions.attachments import Values
from bench.boards.submissions.flags import OF_ATTACK, OF_IMAGES, OF_MAPS, select
from bench.boards.submissions.metadata import Meta, follow_supersedes
from bench.boards.submissions.ownership import find_corrections
from bench.boards.submissions.sanitize import AGAIN, Line
from bench.errors import BadValue, suggestion
from bench.keys import Spec
from bench.shapes import clean, find_likeness, quote

Part: TypeAlias = dict[str, str]  # of the axes of a row
CHOSEN_AXES = ("defense", "explainer", "attack")  # on which a submission may leave the board's choices
OF_ATTACKED = ("attack", "surrogate", "ball")  # the axes of an attack


@dataclass
class Submission:
    """What could be read of it, None for a part that could not; and what is wrong with it. `sound` has the records that
    nothing is wrong with, as far as they have been compared."""

    name: str
    meta: Meta | None = None
    lines: list[Line] | None = None
    values: dict[str, Values] | None = None
    problems: list[str] = field(default_factory=list)
    sound: list[Line] = field(default_factory=list)


def find_idle_tolerances(protocol: Protocol) -> Iterator[str]:
    """Tolerances for metrics that a board does not have."""
    names = {*protocol.metrics, *(metric.partition(":")[0] for metric in protocol.metrics)}
    for metric in sorted(protocol.tolerance.keys() - names):
        yield f"tolerance has {quote(metric)}, which is none of its metrics{suggestion(metric, names)}"


def compare_with_protocol(record: Record, protocol: Protocol) -> str | None:
    """In what a record is none of a board, or None."""
    if record.metric not in protocol.metrics:
        return f"metric is {quote(record.metric)}, but the board has {', '.join(protocol.metrics)}"
    for axis, text in record.axes.items():
        allowed = protocol.choices(axis)
        if axis == "surrogate":
            allowed = list(
                dict.fromkeys([*allowed, protocol.fallback["surrogate"], record.axes.get("explainer", text)])
            )
        if axis not in CHOSEN_AXES and not any(is_choice(text, choice) for choice in allowed):
            return f"axis {axis} is {quote(text)}, but the board has {' or '.join(allowed)}"
    return None


def is_choice(text: str, choice: str) -> bool:
    """Whether a record's text is a board's choice, which has the path of a file where the text has NAME#CHECKSUM."""
    parts = re.split(r"(?<==)([^,()=/#]+)#[0-9a-f]{1,64}(?=[,)]|$)", text)
    folders = r"(?:[^,()=]*/)?"
    return (
        re.fullmatch("".join(place % 2 * folders + re.escape(p) for place, p in enumerate(parts)), choice) is not None
    )


def compare_parts(one: Submission) -> Iterator[str]:
    """Records of a submission that say different things of the same attacked images, or of the same maps."""
    first: dict[object, tuple[object, str]] = {}
    for about, record in one.sound:
        kept = (one.values or {})[record.key].kept if record.key in (one.values or {}) else None
        for what, own, axes in _list_facts(record, None if kept is None else tuple(kept.tolist())):
            other, where = first.setdefault((what, axes), (own, about))
            if other != own:
                yield f"{about}: {what} are not those of {where}, which is of the same; {AGAIN}"
                break


def _list_facts(record: Record, kept: tuple[bool, ...] | None) -> Iterator[tuple[str, object, object]]:
    """What records have in common, and the axes on which it depends."""
    if "attack" not in record.axes:
        return
    images = _leave_out(record, "explainer")
    if kept is not None:
        yield "kept predictions", kept, images
    yield "objectives", sorted(record.objective.items()), images
    yield "flags of the attacked images", select(record.flags, OF_IMAGES), images
    if "explainer" in record.axes:
        yield "flags of the attack", select(record.flags, OF_ATTACK), _leave_out(record)
        yield "flags of the maps", select(record.flags, OF_MAPS), _leave_out(record, *OF_ATTACKED)


def _leave_out(record: Record, *axes: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((axis, text) for axis, text in record.axes.items() if axis not in axes))


def compare_submissions(folder: str, submissions: list[Submission], protocol: Protocol | None) -> None:
    """Add to each submission the problems that it has with those before it."""
    metas = {one.name: one.meta for one in submissions if one.meta is not None}
    by_name = {one.name: one for one in submissions}
    for name, problem in find_corrections(metas, by_name):
        by_name[name].problems.append(f"{folder}/{name}.toml: supersedes has {problem}")
    names: dict[str, str] = {}
    for one in submissions:
        about = f"{folder}/{one.name}.toml"
        same = names.setdefault(find_likeness(one.name), one.name)
        if same != one.name:
            one.problems.append(f"{about}: {quote(one.name)} looks like {quote(same)}; publish under another name")
    try:
        supersedes = follow_supersedes({name: meta.supersedes for name, meta in metas.items()})
    except BadValue as error:
        submissions[0].problems.append(f"{folder}: {error}")
        return
    _find_duplicates(submissions, supersedes)
    _find_other_names(submissions, supersedes)
    if protocol is not None:
        _find_rows_of_others(submissions, supersedes, protocol.choices("attack"))


def _are_related(one: str, other: str, supersedes: Mapping[str, frozenset[str]]) -> bool:
    """Whether one of two submissions supersedes the other. Where the metadata of one cannot be read, that is its
    problem."""
    known = {one, other} <= set(supersedes)
    return not known or other in supersedes[one] or one in supersedes[other]


def _complain(one: Submission, line: Line, problem: str) -> None:
    one.problems.append(f"{line.about}: {problem}")
    one.sound.remove(line)


def _find_duplicates(submissions: list[Submission], supersedes: Mapping[str, frozenset[str]]) -> None:
    """Records of one metric and the same axes, where no submission supersedes the other."""
    cells: dict[object, list[tuple[str, Line]]] = {}
    for one in submissions:
        for line in list(one.sound):
            record = line.record
            cell = cells.setdefault((record.metric, _leave_out(record)), [])
            for name, other in cell:
                if not _are_related(one.name, name, supersedes):
                    same = record.key == other.record.key
                    what = f"key {record.key}" if same else f"{record.metric} of the same axes"
                    way_out = "remove it, or name that submission in supersedes"
                    _complain(one, line, f"{what} is in {other.about} too; {way_out}")
                    break
            cell.append((one.name, line))


def _find_other_names(submissions: list[Submission], supersedes: Mapping[str, frozenset[str]]) -> None:
    """Texts of components that look like others, or whose identity has another text, or that have another identity."""
    # By what is compared: what has been said of it, and where each submission says so first.
    seen: dict[tuple[str, str, str], dict[str, dict[str, str]]] = {}
    for one in submissions:
        for line in list(one.sound):
            problem = ""
            for axis, text, kind, identity in _list_choices(line.record):
                for how, sign, said, way_out in (
                    ("looks like", find_likeness(text), text, "write it as there, or choose another value"),
                    ("is the same as", identity, text, "write it as there"),
                    ("has the identity", text, identity, "run it with the same version"),
                ):
                    uses = seen.setdefault((kind, how, sign), {})
                    for other, places in uses.items() if not problem else ():
                        strangers = (w for n, w in places.items() if not _are_related(one.name, n, supersedes))
                        if other != said and not problem and (where := next(strangers, "")):
                            problem = f"axis {axis} is {quote(text)}, which {how} {quote(other)} in {where}; {way_out}"
                    uses.setdefault(said, {}).setdefault(one.name, line.about)
            if problem:
                _complain(one, line, problem)


def _list_choices(record: Record) -> Iterator[tuple[str, str, str, str]]:
    """Axis, text, kind and identity of each component of a record."""
    choices = Spec.parse(record.spec).choices
    for axis, kind in KINDS.items():
        if axis in record.axes:
            yield axis, record.axes[axis], kind, choices[axis]


def _find_rows_of_others(
    submissions: list[Submission], supersedes: Mapping[str, frozenset[str]], attacks: Collection[str]
) -> None:
    """Records that would change a row of an earlier submission. Those under attacks of their own change none."""
    index = _RowIndex(_row_of(line.record) for one in submissions for line in one.lines or ())
    for one in submissions:
        for line in list(one.sound):
            if line.record.axes.get("attack") not in (None, *attacks):
                continue
            for name, row in index.find(_row_of(line.record)):
                if not _are_related(one.name, name, supersedes):
                    label = ", ".join(f"{axis} {clean(row[axis])}" for axis in ("defense", "explainer") if axis in row)
                    _complain(one, line, f"it would change a row of {name} ({label}); leave it out, or supersede that")
                    break
        index.add(one.name, _list_rows(one.lines or ()))


class _RowIndex:
    """Rows by what a record says that belongs to them, or to more than them, so that nothing is compared with all."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self.named = {tuple(_compare_as(part, "explainer" in part)) for part in parts}
        self.found: dict[object, list[tuple[int, str, Part]]] = {}
        self.count = 0

    def add(self, name: str, rows: Iterable[Part]) -> None:
        self.count += 1
        for row in rows:
            parts = [{axis: row[axis] for axis in names} for names in self.named if row.keys() >= set(names)]
            signs: set[object] = {("wider", frozenset(part.items())) for part in parts}
            signs |= {(of_map, frozenset(_compare_as(row, of_map).items())) for of_map in (True, False)}
            for sign in signs:
                self.found.setdefault(sign, []).append((self.count, name, row))

    def find(self, part: Part) -> Iterator[tuple[str, Part]]:
        """The submissions and the rows that a record meets, the earliest first."""
        of_map = "explainer" in part
        own = _compare_as(part, of_map)
        narrower = ({axis: own[axis] for axis in names} for names in self.named if own.keys() > set(names))
        signs = [("wider", frozenset(own.items())), *((of_map, frozenset(each.items())) for each in narrower)]
        met = (each for sign in signs for each in self.found.get(sign, ()))
        for _, name, row in sorted(met, key=lambda each: each[0]):
            yield name, row


def _compare_as(part: Part, of_map: bool) -> Part:
    """Another surrogate makes no other row of a map: it would be compared with the one that is there."""
    return {axis: text for axis, text in part.items() if axis != "surrogate"} if of_map else part


def _row_of(record: Record) -> Part:
    return {axis: record.axes[axis] for axis in ROW if axis in record.axes}


def _list_rows(lines: Iterable[Line]) -> list[Part]:
    """The rows of some records, of which each belongs to all rows that agree with it."""
    parts = {frozenset(_row_of(line.record).items()) for line in lines}
    return [dict(part) for part in parts if not any(part < other for other in parts)]
