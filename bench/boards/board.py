"""Records to a board: its rows and columns, what stands where they meet, and who is ahead. Uses neither torch nor
plugins."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from bench.boards.cell import Cell, make_cell
from bench.boards.choosing import ROW as ROW, Part, find_records, find_whole, gather, part_of
from bench.boards.columns import NORMALISED, SHARE, WORST, Column, find_areas, find_worst, place_choice, place_column
from bench.boards.doubts import Images, flag_beaten
from bench.boards.folder import EXAMPLES, RECORDS, check_one_version, read_images, read_records
from bench.boards.marks import Mark, read_marks
from bench.boards.protocol import Protocol, Score, read_protocol
from bench.boards.ranking import rank_rows
from bench.boards.record import Record
from bench.boards.standing import Standing, find_ceiling, find_stronger, stand, tell_chance, tell_noise
from bench.boards.statistics import Estimate, Rank, area, fill, of_seeds, share, worst
from bench.boards.submissions.metadata import SUFFIX, Meta, read_meta
from bench.errors import BenchError

SHOWN = 100  # rows of a board that are shown at once
SAME = ("dataset", "split", "target", "samples")  # rows that differ in these answer other questions: they are no rivals


def devices(records: Iterable[Record]) -> list[str]:
    """The devices that records come from, in words."""
    names = {str(record.provenance.get("device", "")) for record in records} - {""}
    return sorted(re.sub(r"\b1 threads$", "1 thread", name) for name in names)


@dataclass(frozen=True)
class Row:
    """What a board says of one choice along the axes. `standing` is over the seeds that the protocol asks of every row.
    `rank` is None for controls, and for a row that is not ranked because of what `missing` or `loses` says. `unguarded`
    is the rank that a row would have if nothing were asked of its usefulness."""

    axes: dict[str, str]
    estimates: dict[Column, Estimate]
    group: str = ""
    rank: Rank | None = None
    control: bool = False
    missing: str = ""
    loses: str = ""
    unguarded: Rank | None = None
    standing: Standing | None = None

    @functools.cached_property
    def records(self) -> list[Record]:
        return list({r.key: r for e in self.estimates.values() for r in e.records}.values())

    @functools.cached_property
    def name(self) -> str:
        """A name that stays when other rows come and go."""
        return row_name(self.axes)


def row_name(axes: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(axes), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Board:
    """A board's protocol, its columns, and its rows in the order in which they are shown: by groups of rivals, the best
    first, controls last. `pictures` has the paths of a row's pictures by its name, `submissions` what each submission
    says of itself, `origin` the submission of a record by its key, and `marks` the latest new run that confirms it.
    `decisive` are the columns that the suite's own records fill. They alone decide how rows are scored and what a row
    must have: a column that a submission adds takes nobody's rank away."""

    name: str
    protocol: Protocol
    columns: list[Column]
    rows: list[Row]
    pictures: dict[str, list[str]] = field(default_factory=dict)
    submissions: dict[str, Meta] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    decisive: frozenset[Column] = frozenset()

    @functools.cached_property
    def records(self) -> list[Record]:
        return list({record.key: record for row in self.rows for record in row.records}.values())

    @functools.cached_property
    def seeds(self) -> frozenset[str]:
        return frozenset(record.axes["seed"] for record in self.records if "seed" in record.axes)

    @functools.cached_property
    def ranked_seeds(self) -> list[str]:
        """The seeds that the protocol asks of every row: ranks are over these alone."""
        return [str(seed) for seed in self.protocol.axes["seed"]]

    @functools.cached_property
    def ball(self) -> str:
        """The budget of the score: that of the protocol, else the largest."""
        balls = [c for c in self.columns if c.ball and not c.over]
        if (self.protocol.score and self.protocol.score.ball) or not balls:
            return self.protocol.score.ball if self.protocol.score else ""
        return max(balls, key=lambda c: Fraction(c.ball.partition(":")[2])).ball

    @functools.cached_property
    def measured(self) -> Column | None:
        """The column of the score, undivided: under the protocol's attack, or as long as that has no records the worst
        case, before single attacks; None without a score."""
        score = self.protocol.score
        if score is None:
            return None
        fits = [c for c in self.columns if c.metric == score.metric and c.ball in ("", self.ball)]
        fits = [c for c in fits if c.attack != SHARE and (not c.attack or c.attack != score.ceiling)]
        fits = [c for c in fits if c in self.decisive] or fits
        return min(
            fits, key=lambda c: (not c.attack or c.attack != score.attack, c.attack not in ("", WORST)), default=None
        )

    @functools.cached_property
    def ceiling(self) -> Column | None:
        """The column of the ceiling; None where the protocol or the records have none."""
        score, measured = self.protocol.score, self.measured
        if score is None or measured is None or not measured.attack:
            return None
        column = Column(score.metric, score.ceiling, measured.ball)
        return column if column in self.decisive else None

    @functools.cached_property
    def chance(self) -> Column | None:
        """The column of the chance level; None where the protocol or the records have none."""
        column = Column(self.protocol.score.chance if self.protocol.score else "", "", "")
        return column if column in self.columns else None

    def share_of(self, column: Column | None) -> Column | None:
        """The column that has another one's share of the ceiling; None where there is none."""
        share = Column(column.metric, SHARE, self.ball) if column else None
        return share if share in self.columns else None

    @functools.cached_property
    def score(self) -> Column | None:
        """The column that rows are ranked by: the share of the ceiling, else the score itself; None without a score."""
        return self.share_of(self.measured) or self.measured

    @functools.cached_property
    def summary(self) -> list[Column]:
        """The columns of the short table: the score, its ceiling and chance; then the worst case of several attacks,
        the score's of several budgets."""
        leading = [self.score, self.share_of(self.chance), self.measured, self.ceiling, self.chance]
        first = [column for column in dict.fromkeys(leading) if column]
        metric, still = (first[0].metric, self.ceiling and self.ceiling.attack) if first else ("", None)
        kept = [c for c in self.columns if c.ball in ("", self.ball) and (c.attack in ("", WORST) or self.sole(c))]
        return [*first, *(c for c in kept if c not in first and c.metric != metric and c.attack not in (SHARE, still))]

    def sole(self, column: Column) -> bool:
        """Whether there is one attack only, and so no worst case."""
        return not any(c.attack == WORST and (c.metric, c.ball) == (column.metric, column.ball) for c in self.columns)

    @functools.cached_property
    def leading(self) -> list[Row]:
        """The rows that are shown at once: all of a small board, and of a large one the first of each group and the
        reference rows."""
        if len(self.rows) <= SHOWN:
            return self.rows
        groups = len({row.group for row in self.rows})
        counts: dict[str, int] = {}
        leading: list[Row] = []
        for row in self.rows:
            counts[row.group] = counts.get(row.group, 0) + 1
            first = len(leading) < SHOWN and counts[row.group] <= max(1, SHOWN // groups)
            if first or self.reference(row) is row:
                leading.append(row)
        return leading

    @functools.cached_property
    def naming(self) -> list[str]:
        """The axes that tell rows apart; where none does, those that a reader looks for."""
        texts = {axis: {row.axes.get(axis, "") for row in self.rows} for axis in ROW}
        axes = [axis for axis in ROW if len(texts[axis]) > 1]
        axes = axes or [axis for axis in ("defense", "explainer") if texts[axis] - {""}]
        # Not a surrogate that follows from the explainer: itself, or what stands for one without a gradient.
        of = {(row.axes.get("explainer"), row.axes.get("surrogate")) for row in self.rows}
        if len(of) == len({explainer for explainer, _ in of}):
            axes = [axis for axis in axes if axis != "surrogate"]
        return axes

    @functools.cached_property
    def shared(self) -> dict[str, str]:
        """The axes that all rows share, with their texts."""
        texts = {axis: {row.axes.get(axis, "") for row in self.rows} for axis in ROW}
        texts |= {"attack": {c.attack for c in self.columns if c.attack not in ("", WORST, SHARE)}}
        texts |= {"ball": {c.ball for c in self.columns if c.ball and not c.over}}
        shared = {axis: next(iter(one)) for axis, one in texts.items() if len(one) == 1 and axis not in self.naming}
        return {axis: text for axis, text in sorted(shared.items()) if text}

    @functools.cached_property
    def within(self) -> list[str]:
        """The axes in which rivals agree: those of the score, and those of SAME in which some rows differ."""
        if self.protocol.score is None:
            return []
        within = self.protocol.score.within
        texts = {axis: {row.axes[axis] for row in self.rows if axis in row.axes} for axis in SAME}
        return [*(axis for axis in SAME if axis not in within and len(texts[axis]) > 1), *within]

    def reference(self, row: Row) -> Row | None:
        """The reference row with this row's other axes; a reference row is its own."""
        return self._references.get(row.name)

    @functools.cached_property
    def _references(self) -> dict[str, Row]:
        rows = {row.name: row for row in self.rows}
        references = {}
        for row in self.rows:
            changed = {axis: text for axis, text in self.protocol.reference.items() if axis in row.axes}
            if row.axes.get("surrogate") == row.axes.get("explainer") and "explainer" in changed:
                changed["surrogate"] = changed["explainer"]
            name = row_name({**row.axes, **changed})
            if name in rows:
                references[row.name] = rows[name]
        return references

    def cell(self, row: Row, column: Column) -> Cell:
        """What stands where a row and a column meet."""
        return self._cells[row.name, column]

    @functools.cached_property
    def _cells(self) -> dict[tuple[str, Column], Cell]:
        cells = {}
        for row in self.rows:
            base = self.reference(row)
            estimates = base.estimates if base else {}
            for column in self.columns:
                cells[row.name, column] = make_cell(row.estimates.get(column), estimates.get(column), self.seeds)
        return cells

    @functools.cached_property
    def described(self) -> dict[str, Record]:
        """By metric, a record that describes it, of the suite where it has one."""
        others = sorted(self.records, key=lambda r: (self.origin.get(r.key) == "suite", r.key))
        return {record.metric: record for record in others}

    @functools.cached_property
    def own(self) -> frozenset[str]:
        """The keys of the suite's records; of all, on a board without any of the suite's."""
        return _find_own(self.origin)

    def evidence(self, row: Row) -> list[Record]:
        """The records that speak about a row: all but those under attacks outside the protocol, which anybody may add
        to any row."""
        return self._evidence[row.name]

    @functools.cached_property
    def _evidence(self) -> dict[str, list[Record]]:
        attacks = {"", *self.protocol.choices("attack")}
        return {row.name: [r for r in row.records if r.axes.get("attack", "") in attacks] for row in self.rows}

    def reported(self, row: Row) -> list[Record]:
        """The records of a row that a submission reports, and not the suite."""
        return [record for record in self.evidence(row) if record.key not in self.own]


def read_board(folder: Path) -> Board:
    """A board from its folder: board.toml and records."""
    protocol = read_protocol(folder)
    records, origin = read_records(folder)
    images = read_images(folder, origin)
    check_one_version(folder, records)
    score = protocol.score or Score("")
    speaks = functools.partial(_may_speak, protocol, origin)
    records = flag_beaten(records, images, score.attack, score.ceiling, speaks)
    values = {key: [value for value, _ in each] for key, each in images.items()}
    by_part: dict[Part, list[tuple[int, Record]]] = {}
    for place, record in enumerate(records):
        by_part.setdefault(part_of(record.axes), []).append((place, record))
    named = list(dict.fromkeys(tuple(axis for axis, _ in part) for part in by_part))
    choices = [dict(part) for part in find_whole(by_part)]
    choices.sort(key=lambda axes: _place(protocol, axes))
    columns = list({Column(r.metric, r.axes.get("attack", ""), r.axes.get("ball", "")): None for r in records})
    rows = [Row(axes, gather(find_records(axes, by_part, named), values)) for axes in choices]
    own = _find_own(origin)
    decisive = {
        c for row in rows for c, filled in row.estimates.items() if own.issuperset(r.key for r in filled.records)
    }
    # Over attacks that the suite has run: one that a submission adds would leave all other rows without a worst case.
    attacks = [attack for attack in protocol.choices("attack") if attack != score.ceiling]
    for column, those in find_worst(c for c in columns if c in decisive and c.attack in attacks).items():
        columns.append(column)
        decisive.add(column)
        for row in rows:
            if all(part in row.estimates for part in those):
                row.estimates[column] = worst([row.estimates[part] for part in those])
    curves = [c for c in columns if c in decisive and (not c.attack or c.attack != score.ceiling)]
    for column, those in find_areas(curves).items():
        columns.append(column)
        decisive.add(column)
        for row in rows:
            curve = [row.estimates[part] for part in those if part in row.estimates]
            # Over the same seeds: budgets with other trainings make no curve.
            if len(curve) == len(those) and all(set(e.images) == set(curve[0].images) for e in curve):
                row.estimates[column] = area(curve, column.ball.endswith(NORMALISED))
    columns.sort(key=lambda column: place_column(protocol, column))
    pictures: dict[str, list[str]] = {}
    for file in sorted((folder / EXAMPLES).glob("*/*.png")):
        pictures.setdefault(file.stem, []).append(file.relative_to(folder).as_posix())
    metas: dict[str, Meta] = {}
    for name in sorted(set(origin.values()), key=lambda name: (name != "suite", name)):
        with contextlib.suppress(BenchError):  # while it is being filled in; `validate` says what is wrong
            metas[name] = read_meta(folder / RECORDS / f"{name}{SUFFIX}")
    marks = {key: mark for mark in read_marks(folder) for key in mark.keys}
    name = folder.resolve().name
    board = Board(name, protocol, columns, rows, pictures, metas, origin, marks, frozenset(decisive))
    return rank_rows(_stand_rows(board, images))


def _find_own(origin: Mapping[str, str]) -> frozenset[str]:
    return frozenset(key for key, name in origin.items() if name == "suite") or frozenset(origin)


def _may_speak(protocol: Protocol, origin: Mapping[str, str], other: Record, record: Record) -> bool:
    """Whether a record may speak against another: an attack of the protocol on the explainer itself or on a surrogate
    of the protocol, or one of the same submission. Otherwise anybody could mark any row."""
    surrogates = (other.axes["explainer"], *protocol.choices("surrogate"))
    of_board = other.axes["attack"] in protocol.choices("attack") and other.axes["surrogate"] in surrogates
    return of_board or origin[other.key] == origin[record.key]


def _stand_rows(board: Board, images: Images) -> Board:
    """The board with a standing for each row, or the reason why it has none, and with shares of the ceiling. In the
    column of the score, undefined images count as lost, and the attack may be a stronger one."""
    measured = board.measured
    if measured is None:
        return board
    divide = board.ceiling is not None and board.described[measured.metric].better == "higher"
    shares = [Column(column.metric, SHARE, board.ball) for column in (measured, board.chance) if divide and column]
    rows = [_stand_row(board, measured, row, images, divide) for row in board.rows]
    columns = sorted([*board.columns, *shares], key=lambda column: place_column(board.protocol, column))
    return dataclasses.replace(board, columns=columns, rows=rows)


def _stand_row(board: Board, measured: Column, row: Row, images: Images, divide: bool) -> Row:
    seeds, score = board.ranked_seeds, board.protocol.score
    assert score is not None
    group = ", ".join(f"{axis} {row.axes[axis]}" for axis in board.within if axis in row.axes)
    source = _choose_attack(board, measured, row, images)
    shown, standing = (_find_standing(board, measured, source, row, choice, divide) for choice in (None, seeds))
    estimates = dict(row.estimates)
    for needed in _needed_metrics(score):
        if needed in estimates and (filled := fill(estimates[needed])):
            estimates[needed] = filled
    if isinstance(shown, Standing):
        estimates[measured] = shown.score
        if board.ceiling and shown.ceiling:
            estimates[board.ceiling] = shown.ceiling
        for column in (measured, board.chance) if divide else ():
            if column in estimates and shown.ceiling and (part := share(estimates[column], shown.ceiling)):
                estimates[Column(column.metric, SHARE, board.ball)] = part
    missing = "" if isinstance(standing, Standing) else standing
    if isinstance(standing, Standing):
        noise = _find(row, Column(measured.metric, score.noise, measured.ball), seeds)
        scores = [each for each in (standing.score, standing.beaten) if each]
        flags = {flag for each in scores for record in each.records for flag in record.flags}
        missing = "; ".join(
            [*sorted(flags), *tell_noise(standing, noise, score.noise), *_tell_chance(board, row, divide)]
        )
    return dataclasses.replace(
        row,
        estimates=estimates,
        group=group,
        control=board.protocol.is_control(row.axes),
        missing=missing,
        standing=standing if isinstance(standing, Standing) else None,
    )


def _tell_chance(board: Board, row: Row, divide: bool) -> list[str]:
    base = board.reference(row) if divide else None
    return tell_chance(*(_find(each, board.chance, board.ranked_seeds) for each in (row, base))) if base else []


def _needed_metrics(score: Score) -> list[Column]:
    """The columns without which a row is not ranked, and in which undefined images count as lost, as in the score."""
    return [Column(metric, "", "") for metric in dict.fromkeys([score.against, *score.needs])]


def _find(row: Row, column: Column | None, seeds: Sequence[str] | None) -> Estimate | None:
    """A row's estimate in a column, over some seeds or over all; None where it has no values."""
    found = row.estimates.get(column) if column else None
    found = of_seeds(found, seeds) if found and seeds is not None else found
    return found if found and any(found.images.values()) else None


def _choose_attack(board: Board, measured: Column, row: Row, images: Images) -> Column:
    """The column that gives a row's score: that of the score's attack, or of a stronger one of the protocol."""
    score, mine = board.protocol.score, _find(row, measured, board.ranked_seeds)
    mine = fill(mine) if mine else None
    if mine is None or score is None or not score.attack or measured.attack != score.attack:
        return measured
    attacks = [attack for attack in board.protocol.choices("attack") if attack not in (score.attack, score.ceiling)]
    others = {a: _find(row, Column(measured.metric, a, measured.ball), board.ranked_seeds) for a in attacks}
    filled = {attack: each for attack, other in others.items() if other and (each := fill(other))}
    return dataclasses.replace(measured, attack=find_stronger(mine, filled, images) or measured.attack)


def _find_standing(
    board: Board, measured: Column, source: Column, row: Row, seeds: Sequence[str] | None, divide: bool
) -> Standing | str:
    """Where a row stands over some seeds or over all, or why it stands nowhere."""
    score, whole = board.protocol.score, row.estimates.get(measured)
    assert score is not None
    if whole and seeds is not None and of_seeds(whole, seeds) is None:
        return f"fewer seeds than its rivals: {len(set(seeds) & set(whole.images))} of {len(seeds)}"
    mine, ties = _find(row, source, seeds), Column(score.ties, "", "")
    if mine is None:
        return f"no {measured.metric}" + (f" under every attack of {measured.ball}" if measured.attack == WORST else "")
    # What could speak against a row must not be left out of its records.
    attacks = board.protocol.choices("attack") if measured.attack == score.attack else [score.noise, score.ceiling]
    needed = [*(Column(measured.metric, attack, measured.ball) for attack in attacks if attack), ties]
    needed += _needed_metrics(score)
    lacks = [column for column in needed if column in board.decisive and not _find(row, column, seeds)]
    if lacks:
        return "no " + ", ".join(f"{c.metric} under {c.attack}" if c.attack else c.metric for c in lacks)
    ceiling = find_ceiling(_find(row, board.ceiling, seeds), _find(row, ties, seeds))
    if board.ceiling and ceiling is None:
        return f"undefined for some images under {score.ceiling}, which have no best value to count with"
    found = stand(mine, ceiling, divide)
    if isinstance(found, str) or source == measured:
        return found
    beaten = dataclasses.replace(found.score, under=source.attack)
    return dataclasses.replace(found, score=beaten, beaten=_find(row, measured, seeds))


def _place(protocol: Protocol, row: Mapping[str, str]) -> tuple[Any, ...]:
    """The place of a row in the order of the protocol's choices; what it does not name comes last."""
    return tuple(place_choice(protocol.axes.get(axis, []), row.get(axis, "")) for axis in ROW)
