"""Records to a board: rows, columns, what stands where they meet, and who is ahead. Uses neither torch nor plugins."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from bench.boards.doubts import Images, flag_beaten
from bench.boards.protocol import Protocol, board_protocol
from bench.boards.record import CALMLY, Record
from bench.boards.statistics import Difference, Estimate, Rank, area, difference, estimate, rank, worst
from bench.boards.submissions.metadata import SUFFIX, Meta, corrections, read_meta
from bench.errors import BadValue, BenchError, EnvironmentProblem

ROW = ("dataset", "split", "model", "schedule", "defense", "explainer", "surrogate", "target", "samples")
RECORDS, EXAMPLES = "records", "examples"
GENERATED = ("README.md", "table.csv", "table.tex", "board.json", "index.html")
AREA, NORMALISED, WORST, CONTROLS = "AUC", "AUC normalised", "worst case", "controls"
SAME = ("dataset", "split", "target", "samples")  # rows that differ in these answer other questions: no rank is shared
COSTS = ("s", "MiB", "passes")  # units of what is shown as a ratio to the reference row, on one device only


def devices(records: Iterable[Record]) -> list[str]:
    return sorted({str(record.provenance.get("device", "")) for record in records} - {""})


@dataclass(frozen=True)
class Column:
    """A metric, under an attack and a budget where it reaches them; the attack may be the worst of all for each image,
    the budget the area over all."""

    metric: str
    attack: str
    ball: str

    @property
    def derived(self) -> bool:
        """Whether its entries come from those of other columns."""
        return self.attack == WORST or self.over

    @property
    def over(self) -> bool:
        return self.ball.endswith((AREA, NORMALISED))


@dataclass(frozen=True)
class Row:
    """What a board says of one choice along the axes. `rank` is None for controls, and where `missing` says what
    there is not."""

    axes: dict[str, str]
    entries: dict[Column, Estimate]
    group: str = ""
    rank: Rank | None = None
    control: bool = False
    missing: str = ""

    @functools.cached_property
    def records(self) -> list[Record]:
        return list({r.key: r for e in self.entries.values() for r in e.records}.values())

    @property
    def name(self) -> str:
        """A name that stays when other rows come and go."""
        return row_name(self.axes)


def row_name(axes: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(axes), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Board:
    """A board's protocol, its columns, and its rows in the order in which they are shown: by groups of rivals, the best
    first; controls last. By the names of rows the paths of their pictures, by those of submissions what they say of
    themselves, by keys of records the submissions that these are from."""

    name: str
    protocol: Protocol
    columns: list[Column]
    rows: list[Row]
    pictures: dict[str, list[str]] = field(default_factory=dict)
    submissions: dict[str, Meta] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)

    @functools.cached_property
    def records(self) -> list[Record]:
        return list({record.key: record for row in self.rows for record in row.records}.values())

    @functools.cached_property
    def seeds(self) -> frozenset[str]:
        return frozenset(record.axes["seed"] for record in self.records if "seed" in record.axes)

    @functools.cached_property
    def score(self) -> Column | None:
        """The column that rows are ranked by: the worst case where there are several attacks."""
        return scored(self.protocol, self.columns)

    @functools.cached_property
    def summary(self) -> list[Column]:
        """The columns that say it in short: of several attacks the worst case, of several budgets the score's."""
        kept = [c for c in self.columns if c.ball in ("", self.ball) and (c.attack in ("", WORST) or self.sole(c))]
        return sorted(kept, key=lambda c: c != self.score)

    @functools.cached_property
    def ball(self) -> str:
        return main_ball(self.protocol, self.columns)

    def sole(self, column: Column) -> bool:
        """Whether there is one attack alone, and so no worst case beside it."""
        return not any(c.attack == WORST and (c.metric, c.ball) == (column.metric, column.ball) for c in self.columns)

    @functools.cached_property
    def naming(self) -> list[str]:
        """The axes that tell rows apart; where they leave nothing to tell, those that a reader looks for."""
        texts = {axis: {row.axes.get(axis, "") for row in self.rows} for axis in ROW}
        found = [axis for axis in ROW if len(texts[axis]) > 1]
        found = found or [axis for axis in ("defense", "explainer") if texts[axis] - {""}]
        # Not where it follows from the explainer: its own, or what stands for one without a gradient.
        of = {(row.axes.get("explainer"), row.axes.get("surrogate")) for row in self.rows}
        if len(of) == len({explainer for explainer, _ in of}):
            found = [axis for axis in found if axis != "surrogate"]
        return found

    @functools.cached_property
    def within(self) -> list[str]:
        """The axes in which rivals agree."""
        return rivalry(self.protocol, [row.axes for row in self.rows])

    @functools.cached_property
    def beside(self) -> dict[tuple[str, Column], Difference]:
        """By a row's name and a column that is no cost, how far the row is from its reference row."""
        found = {}
        for row in self.rows:
            base = reference_of(self, row)
            for column, mine in row.entries.items() if base and base is not row else ():
                theirs = base.entries.get(column)
                if theirs and mine.records[0].unit not in COSTS and (there := difference(mine, theirs)):
                    found[row.name, column] = there
        return found

    @functools.cached_property
    def described(self) -> dict[str, Record]:
        """By metric, a record that says what it is: of the suite where it has one."""
        others = sorted(self.records, key=lambda r: (self.origin.get(r.key) == "suite", r.key))
        return {record.metric: record for record in others}


class Published(NamedTuple):
    """Records, each key once; by key what there is of each image, and the submission that a record is from."""

    records: list[Record]
    images: Images
    origin: dict[str, str]


def read_records(folder: Path) -> Published:
    """The records of a board's submissions. Where one submission supersedes another, its records take the place of
    those of the same key, or of the same metric and axes."""
    import pyarrow.parquet

    records: dict[str, Record] = {}
    origin: dict[str, str] = {}
    supersedes = corrections(folder / RECORDS)
    images: dict[str, list[tuple[float | None, bool | None]]] = {}
    # The suite's own first: of two records of one key, the first counts.
    for file in sorted((folder / RECORDS).glob("*.jsonl"), key=lambda f: (f.stem != "suite", f.name)):
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            try:
                record = Record.parse(line)
            except (ValueError, TypeError, KeyError, AttributeError):
                raise BadValue(f"{file}, line {number}: no record of this version; publish it again") from None
            if record.key not in records or origin[record.key] in supersedes.get(file.stem, ()):
                records[record.key], origin[record.key] = record, file.stem
        beside = file.with_suffix(".values.parquet")
        try:
            columns = pyarrow.parquet.read_table(
                beside, columns=["key", "image", "value", "kept"], **CALMLY
            ).to_pydict()
            images.update({key: each for key, each in _by_image(columns).items() if origin.get(key) == file.stem})
        except FileNotFoundError:
            raise EnvironmentProblem(f"{beside} is not there; publish {file.stem} again") from None
        except (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException) as error:
            raise EnvironmentProblem(
                f"{beside} cannot be read ({' '.join(str(error).split())[:120]}); publish {file.stem} again"
            ) from None
    cells: dict[tuple[str, str], list[Record]] = {}
    for record in records.values():
        cells.setdefault(_cell_of(record), []).append(record)
    kept = [
        record
        for record in records.values()
        if not any(origin[record.key] in supersedes.get(origin[o.key], ()) for o in cells[_cell_of(record)])
    ]
    return Published(kept, images, origin)


def _cell_of(record: Record) -> tuple[str, str]:
    """What a record is about: of one metric and case there is one record."""
    return record.metric, str(sorted(record.axes.items()))


def _by_image(columns: Mapping[str, list]) -> dict[str, list[tuple[float | None, bool | None]]]:
    """By key, the mean over levels of each image's values, None where a level is undefined, and whether it was kept."""
    found: dict[str, dict[int, list[float | None]]] = {}
    kept: dict[tuple[str, int], bool | None] = {}
    rows = zip(*(columns[name] for name in ("key", "image", "value", "kept")), strict=True)
    for key, image, value, same in rows:
        found.setdefault(key, {}).setdefault(image, []).append(value)
        kept[key, image] = same
    return {
        key: [
            (None if None in levels else math.fsum(levels) / len(levels), kept[key, image])
            for image, levels in images.items()
        ]
        for key, images in found.items()
    }


def read_board(folder: Path) -> Board:
    """A board from its folder: board.toml and records."""
    protocol = board_protocol(folder)
    records, images, origin = read_records(folder)
    _check_one_version(folder, records)
    records = flag_beaten(records, images)
    values = {key: [value for value, _ in each] for key, each in images.items()}
    parts = {tuple((axis, r.axes[axis]) for axis in ROW if axis in r.axes) for r in records}
    # Accuracy knows no explainer: its records belong to every row that agrees with what they do name.
    rows = [dict(part) for part in parts if not any(set(part) < set(other) for other in parts)]
    rows.sort(key=lambda row: _place(protocol, row))
    columns = list({Column(r.metric, r.axes.get("attack", ""), r.axes.get("ball", "")): None for r in records})
    entries = []
    for row in rows:
        mine: dict[Column, list[Record]] = {}
        for record in records:
            if all(row.get(axis) == record.axes[axis] for axis in ROW if axis in record.axes):
                column = Column(record.metric, record.axes.get("attack", ""), record.axes.get("ball", ""))
                mine.setdefault(column, []).append(record)
        entries.append({column: estimate(found, values) for column, found in mine.items()})
    # Of the protocol's attacks: one that a submission adds would leave all other rows without a worst case.
    attacks = protocol.choices("attack")
    for column, parts in worsts(c for c in columns if c.attack in attacks).items():
        columns.append(column)
        for found in entries:
            if all(part in found for part in parts):
                found[column] = worst([found[part] for part in parts])
    for column, parts in areas(columns).items():
        columns.append(column)
        for found in entries:
            # Of one and the same seeds: the values of some budgets over other trainings make no curve.
            if all(part in found and set(found[part].images) == set(found[parts[0]].images) for part in parts):
                found[column] = area([found[part] for part in parts], column.ball.endswith(NORMALISED))
    columns.sort(key=lambda column: _order(protocol, column))
    pictures: dict[str, list[str]] = {}
    for file in sorted((folder / EXAMPLES).glob("*/*.png")):
        pictures.setdefault(file.stem, []).append(file.relative_to(folder).as_posix())
    metas: dict[str, Meta] = {}
    for name in sorted(set(origin.values()), key=lambda name: (name != "suite", name)):
        with contextlib.suppress(BenchError):  # while it is being filled in; `validate` says what is wrong
            metas[name] = read_meta(folder / RECORDS / f"{name}{SUFFIX}")
    ranked = _ranked(protocol, columns, rows, entries)
    return Board(folder.resolve().name, protocol, columns, ranked, pictures, metas, origin)


def _ranked(
    protocol: Protocol,
    columns: Sequence[Column],
    rows: Sequence[dict[str, str]],
    entries: Sequence[dict[Column, Estimate]],
) -> list[Row]:
    """Rows by groups of rivals, with their ranks: a row without a score, or a control, has none."""
    score, within = scored(protocol, columns), rivalry(protocol, rows)
    found: list[Row] = []
    for axes, mine in zip(rows, entries, strict=True):
        group = ", ".join(f"{axis} {axes[axis]}" for axis in within if axis in axes)
        missing = ""
        if score and (score not in mine or mine[score].value is None):
            missing = f"no {score.metric}" + (f" under every attack of {score.ball}" if score.attack == WORST else "")
        found.append(Row(axes, mine, group, None, protocol.control(axes), missing))
    if not score:
        return found
    # A group of controls alone has nothing to rank: they stand together at the end.
    able = {row.group for row in found if not row.control}
    found = [row if row.group in able else dataclasses.replace(row, group=CONTROLS) for row in found]
    ranked: list[Row] = []
    rivals: dict[str, list[Row]] = {}
    for row in found:
        rivals.setdefault(row.group, []).append(row)
    for group in (rivals[key] for key in sorted(rivals, key=lambda key: key == CONTROLS)):
        whole = [row for row in group if not row.control and not row.missing]
        sign = -1 if whole and whole[0].entries[score].records[0].better == "higher" else 1
        placed = [
            dataclasses.replace(row, rank=place)
            for row, place in zip(whole, rank([row.entries[score] for row in whole]), strict=True)
        ]
        placed.sort(key=lambda row: (sign * round(row.entries[score].value or 0.0, 3), _place(protocol, row.axes)))
        ranked += [*placed, *(r for r in group if r.missing and not r.control), *(r for r in group if r.control)]
    return ranked


def rivalry(protocol: Protocol, rows: Iterable[Mapping[str, str]]) -> list[str]:
    """The axes in which rivals agree: those that the score says, and of SAME those in which some rows differ."""
    rows = list(rows)
    within = protocol.score.within if protocol.score else ()
    differing = [axis for axis in SAME if axis not in within and len({row[axis] for row in rows if axis in row}) > 1]
    return [*differing, *within] if protocol.score else []


def main_ball(protocol: Protocol, columns: Iterable[Column]) -> str:
    """The budget of the score: that of the protocol, else the largest."""
    balls = [c for c in columns if c.ball and not c.over]
    if (protocol.score and protocol.score.ball) or not balls:
        return protocol.score.ball if protocol.score else ""
    return max(balls, key=lambda c: Fraction(c.ball.partition(":")[2])).ball


def scored(protocol: Protocol, columns: Sequence[Column]) -> Column | None:
    """The column of the score, the worst case before single attacks; None where there is none."""
    if protocol.score is None:
        return None
    fits = [c for c in columns if c.metric == protocol.score.metric and c.ball in ("", main_ball(protocol, columns))]
    return min(fits, key=lambda c: c.attack not in ("", WORST), default=None)


def worsts(columns: Iterable[Column]) -> dict[Column, list[Column]]:
    """Columns of the worst case, and the columns of the attacks that it is over."""
    found: dict[tuple[str, str], list[Column]] = {}
    for column in columns:
        if column.attack and Fraction(column.ball.partition(":")[2]) > 0:
            found.setdefault((column.metric, column.ball), []).append(column)
    return {Column(metric, WORST, ball): parts for (metric, ball), parts in found.items() if len(parts) > 1}


def areas(columns: Iterable[Column]) -> dict[Column, list[Column]]:
    """Columns of the area under a curve over budgets, and the columns that it is over, by growing eps."""
    curves: dict[tuple[str, str, str], list[Column]] = {}
    for column in columns:
        norm, _, eps = column.ball.partition(":")
        if eps and Fraction(eps) > 0:
            curves.setdefault((column.metric, column.attack, norm), []).append(column)
    return {
        Column(metric, attack, f"{norm}:{name}"): sorted(parts, key=lambda c: Fraction(c.ball.partition(":")[2]))
        for (metric, attack, norm), parts in curves.items()
        if len(parts) > 1
        for name in (AREA, NORMALISED)
    }


def reference_of(board: Board, row: Row) -> Row | None:
    """The reference row that differs from a row in nothing else; of such a row itself."""
    changed = {axis: text for axis, text in board.protocol.reference.items() if axis in row.axes}
    if row.axes.get("surrogate") == row.axes.get("explainer") and "explainer" in changed:
        changed["surrogate"] = changed["explainer"]
    return next((other for other in board.rows if other.axes == {**row.axes, **changed}), None)


def rounded(found: Estimate) -> str:
    """A value with its unit."""
    unit = found.records[0].unit
    return f"{found.value:.3f}" + (f" {unit}" if unit else "")


def ratio(board: Board, row: Row, column: Column) -> float | None:
    """A cost beside that of the reference row; None where one is missing, or not all was measured on one device."""
    base = reference_of(board, row)
    mine, theirs = row.entries.get(column), base.entries.get(column) if base else None
    if mine is None or theirs is None or mine.value is None or not theirs.value:
        return None
    # One device for all: of two rows on the same two devices, each seed may have been measured on the other.
    where = {str(record.provenance.get("device", "")) for record in (*mine.records, *theirs.records)}
    return mine.value / theirs.value if len(where) == 1 and where != {""} else None


def _check_one_version(folder: Path, records: Iterable[Record]) -> None:
    """Raise BadValue where two records are of one metric and case and of two keys: a mean over both says nothing."""
    keys: dict[tuple[str, str], str] = {}
    for record in records:
        about = _cell_of(record)
        if keys.setdefault(about, record.key) != record.key:
            raise BadValue(
                f"board {folder}: two records of {record.metric} of {record.axes.get('defense', '')} have the keys "
                f"{keys[about]} and {record.key}, from other versions or other data; publish the older one again"
            )


def _place(protocol: Protocol, row: Mapping[str, str]) -> tuple:
    """Rows in the order of the protocol's choices; what it does not name comes after."""
    return tuple(_index(protocol.axes.get(axis, []), row.get(axis, "")) for axis in ROW)


def _order(protocol: Protocol, column: Column) -> tuple:
    norm, _, eps = column.ball.partition(":")
    return (
        _index(protocol.metrics, column.metric),
        (-1, "") if column.attack == WORST else _index(protocol.axes["attack"], column.attack),
        _index(protocol.axes["norm"], norm),
        _index(protocol.axes["eps"], eps),
    )


def _index(choices: Sequence, text: str) -> tuple[int, str]:
    texts = [str(choice) for choice in choices]
    return (texts.index(text) if text in texts else len(texts), text)


def drifted(folder: Path, files: Mapping[str, str]) -> list[str]:
    """The names of generated files that are not what they would be."""
    return [name for name, text in files.items() if not _same(folder / name, text)]


def _same(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def write_submission(folder: Path, name: str, records: Iterable[Record], values: bytes) -> None:
    """Put records into a board, one file a submission, its lines sorted by key, the values of images beside it."""
    place = folder / RECORDS
    place.mkdir(parents=True, exist_ok=True)
    lines = [record.line() for record in sorted(records, key=lambda r: r.key)]
    (place / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (place / f"{name}.values.parquet").write_bytes(values)


def compared(protocol: Protocol, published: Iterable[Record], found: Mapping[str, Record]) -> list[str]:
    """How records of a new run differ from the published ones, a line each; costs are not compared."""
    lines = []
    for record in published:
        shown_axes = ("defense", "explainer", "attack", "ball", "seed")
        about = f"{record.metric} of " + ", ".join(f"{a} {record.axes[a]}" for a in shown_axes if a in record.axes)
        again = found.get(record.key)
        if again is None:
            lines.append(f"{about}: published, and not part of what the board asks for now; publish the board again")
        elif record.unit not in COSTS:
            allowed = protocol.allowed(record.metric)
            if (record.value is None) != (again.value is None):
                lines.append(f"{about}: published {record.value}, found {again.value}")
            elif record.value is not None and again.value is not None and abs(record.value - again.value) > allowed:
                lines.append(
                    f"{about}: published {record.value:.4f}, found {again.value:.4f}, allowed are {allowed:g} between"
                )
    return lines
