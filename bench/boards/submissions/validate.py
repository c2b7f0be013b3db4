"""Submissions to a board: whether they are what they say, without running anything of theirs. Uses neither torch nor
plugins."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.boards.board import ROW, row_name
from bench.boards.folder import EXAMPLES, GENERATED, RECORDS
from bench.boards.protocol import FILE, Protocol, board_protocol
from bench.boards.record import Record
from bench.boards.statistics import Summary, summarise
from bench.boards.submissions.attachments import Values, check_png, read_values
from bench.boards.submissions.metadata import NAME, SIZE, Meta, closed, read_meta
from bench.boards.submissions.sanitize import read_record, said
from bench.errors import BadValue, BenchError, EnvironmentProblem, UnknownName

TOP = (FILE, *GENERATED)
PARTS = {"jsonl": 20_000_000, "values.parquet": 50_000_000, "toml": SIZE, "png": 300_000}  # and their sizes in bytes
FILES = 10_000
LISTED = 10  # complaints of one kind about one file that are spelled out
FREE = ("defense", "explainer", "surrogate", "attack")  # axes that a submission chooses
CLOSE = 1e-9
PART = re.compile(rf"{RECORDS}/({NAME.pattern})\.(jsonl|values\.parquet|toml)")
EXAMPLE = re.compile(rf"{EXAMPLES}/({NAME.pattern})/[0-9a-f]{{16}}\.(png)")


@dataclass
class Submission:
    """What could be read of one: `records` with the numbers of their lines; None for a part that could not."""

    name: str
    meta: Meta | None = None
    records: list[tuple[int, Record]] | None = None
    values: dict[str, Values] | None = None


@dataclass
class Findings:
    """What is wrong, one line each; what is right, when nothing is."""

    lines: list[str] = field(default_factory=list)
    submissions: int = 0
    records: int = 0


def validate(folder: Path, names: Collection[str] = (), base: Path | None = None) -> list[str]:
    """All that is wrong with a board's submissions, or with those named, one line each."""
    return examined(folder, names, base).lines


def examined(folder: Path, names: Collection[str] = (), base: Path | None = None) -> Findings:
    """Everything about a board's submissions that can be told from their files, or from those of some names alone.

    `base` is the same board as it was before: what is published stays as it is. A file that cannot be read stops the
    check of no other. Raises EnvironmentProblem where the folder itself cannot be read.
    """
    try:
        return _examined(folder, names, base)
    except OSError as error:
        raise EnvironmentProblem(
            f"board {folder} cannot be read ({said(str(error))}); see to its permissions"
        ) from None


def _examined(folder: Path, names: Collection[str], base: Path | None) -> Findings:
    if not folder.is_dir():
        raise EnvironmentProblem(f"board {folder} cannot be read; name a folder that has a {FILE}")
    found = Findings()
    files, bad = _files(folder, found.lines)
    for name in names:
        if not any(_owner(part) == name for part in (*files, *bad)):
            raise UnknownName(f"board {folder}: no submission called '{said(name)}'")
    if base is not None:
        if folder.is_symlink():
            found.lines.append(f"{folder} is a link; put the folder itself there")
        found.lines += _moved(folder, files, bad, base)
    protocol = _protocol(folder, files, bad, found.lines)
    owners = sorted({o for part in (*files, *bad) if (o := _owner(part)) is not None}, key=lambda o: (o != "suite", o))
    submissions = []
    for name in owners:
        one, lines = _read(folder, name, files, bad)
        lines += _pictures(folder, one, files)
        if protocol is not None:
            lines += _listed(f"{folder}/{RECORDS}/{name}.jsonl", _unfit(folder, one, protocol))
        found.lines += lines if not names or name in names else []
        submissions.append(one)
        found.records += len(one.records or ())
    found.submissions = sum(one.records is not None for one in submissions)
    for name, line in _between(folder, submissions, owners):
        found.lines += [line] if not names or name in names else []
    found.lines = [said(line, 1000) for line in found.lines]
    return found


def _owner(part: str) -> str | None:
    match = PART.fullmatch(part) or EXAMPLE.fullmatch(part)
    return match[1] if match else None


def _files(folder: Path, lines: list[str]) -> tuple[dict[str, Path], set[str]]:
    """The permitted files below a board, by path in it, and the paths of what is not taken as it is."""
    found: dict[str, Path] = {}
    bad: set[str] = set()
    todo, count = [folder], 0
    while todo:
        for entry in sorted(os.scandir(todo.pop()), key=lambda e: e.name):
            path, count = Path(entry.path), count + 1
            if count > FILES:
                lines.append(f"{folder} holds more than {FILES} files; leave out what is no submission")
                return found, bad
            part = path.relative_to(folder).as_posix()
            match = PART.fullmatch(part) or EXAMPLE.fullmatch(part)
            about, mode = f"{folder}/{said(part)}", entry.stat(follow_symlinks=False)
            size = PARTS[match[2]] if match else PARTS["toml" if part == FILE else "jsonl"]
            if stat.S_ISLNK(mode.st_mode):
                lines.append(f"{about} is a link; put the file itself there")
            elif stat.S_ISDIR(mode.st_mode):
                if part in (RECORDS, EXAMPLES) or re.fullmatch(f"{EXAMPLES}/{NAME.pattern}", part):
                    todo.append(path)
                    continue
                lines.append(f"{about} is a folder that no board has; remove it")
            elif not stat.S_ISREG(mode.st_mode) or not (match or part in TOP):
                lines.append(
                    f"{about} is no file of a board; {RECORDS}/NAME.jsonl, .values.parquet and .toml are taken, and "
                    f"{EXAMPLES}/NAME/KEY.png"
                )
            elif mode.st_size > size:
                lines.append(f"{about} has {mode.st_size} bytes; at most {size} are taken")
            elif mode.st_size == 0:
                lines.append(f"{about} is empty; publish it again or remove it")
            else:
                found[part] = path
                continue
            bad.add(part)
    return found, bad


def _protocol(folder: Path, files: Mapping[str, Path], bad: Collection[str], lines: list[str]) -> Protocol | None:
    if FILE in bad:
        return None
    if FILE not in files:
        raise EnvironmentProblem(f"board {folder} has no {FILE}; name a folder that has one")
    try:
        return board_protocol(folder)
    except (BadValue, UnknownName) as error:
        lines.append(str(error))
    except (ValueError, RecursionError) as error:
        lines.append(f"{files[FILE]} is not TOML ({said(str(error))}); write it as those of other boards")
    return None


def _moved(folder: Path, files: Mapping[str, Path], bad: Collection[str], base: Path) -> list[str]:
    """What was published and is another now, and what a submission may not touch."""
    lines: list[str] = []
    before = _files(base, [])[0] if base.is_dir() else {}
    if not before:
        return []  # a new board
    for part in sorted({*before, *files} - {*bad}):
        about, there, here = f"{folder}/{said(part)}", before.get(part), files.get(part)
        if there and here and _same(there, here):
            continue
        if _owner(part) is None:
            lines.append(f"{about} is not what it was; a submission adds records and examples alone: put it back")
        elif there:
            what = "is not what was published" if here else "is gone, and was published"
            lines.append(f"{about} {what}; results stay: publish a correction under a new name, with supersedes")
    return lines


def _same(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()


def _read(folder: Path, name: str, files: Mapping[str, Path], bad: Set[str]) -> tuple[Submission, list[str]]:
    """The parts of one submission, each checked for itself and against the others where these can be read."""
    one, lines = Submission(name), []
    paths = {kind: f"{RECORDS}/{name}.{kind}" for kind in ("jsonl", "values.parquet", "toml")}
    missing = [part for part in paths.values() if part not in files]
    if missing and not bad & {*paths.values()}:
        hint = "bench leaderboard publish writes all three parts"
        lines.append(f"{folder}/{missing[0]} is missing from submission {said(name)}; {hint}")
    if paths["toml"] in files:
        try:
            one.meta = read_meta(files[paths["toml"]])
        except BenchError as error:
            lines.append(str(error))
    if paths["jsonl"] in files:
        one.records, wrong = _records(files[paths["jsonl"]])
        lines += _listed(str(files[paths["jsonl"]]), wrong)
    if paths["values.parquet"] in files:
        try:
            one.values = read_values(files[paths["values.parquet"]])
        except BenchError as error:
            lines.append(str(error))
    if one.records is not None and one.values is not None:
        wrong = list(_disagreements(folder, one.name, one.records, one.values))
        lines += _listed(f"{folder}/{RECORDS}/{name}", wrong)
        one.values = None if wrong else one.values
    return one, lines


def _listed(about: str, lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    more = [f"{about}: {len(lines) - LISTED} more lines like these"] if len(lines) > LISTED else []
    return lines[:LISTED] + more


def _records(file: Path) -> tuple[list[tuple[int, Record]] | None, list[str]]:
    """Records by the numbers of their lines, None where some line is none; and what is wrong."""
    records, lines = [], []
    keys: dict[str, int] = {}
    for number, line in enumerate(file.read_bytes().removesuffix(b"\n").split(b"\n"), 1):
        try:
            record = read_record(f"{file}, line {number}", line)
        except BenchError as error:
            lines.append(str(error))
            continue
        if record.key in keys:
            lines.append(
                f"{file}, line {number}: key {record.key} stands in line {keys[record.key]} too; leave out one"
            )
        keys.setdefault(record.key, number)
        records.append((number, record))
    return (None if lines else records), lines


def _disagreements(
    folder: Path, name: str, records: list[tuple[int, Record]], values: Mapping[str, Values]
) -> Iterator[str]:
    """Where records are not what the values of their images amount to."""
    for key in sorted(set(values) - {record.key for _, record in records}):
        about = f"{folder}/{RECORDS}/{name}.values.parquet"
        yield f"{about} has values of {said(key)}, which is no record; publish it again"
    for number, record in records:
        about = f"{folder}/{RECORDS}/{name}.jsonl, line {number}"
        mine = values.get(record.key)
        if mine is None and not record.undefined_because:
            yield f"{about}: key {record.key} has no values beside it and no undefined_because; publish it again"
            continue
        mine = mine or Values(np.empty(0, np.int64), ("",), np.empty((0, 1)), None)
        amount = summarise(mine.values, mine.names, mine.kept, record.range)
        for part in Summary.__dataclass_fields__:
            if not _near(getattr(record, part), getattr(amount, part)):
                yield (
                    f"{about}: {part} is {said(getattr(record, part), 60)}, and its images give "
                    f"{said(getattr(amount, part), 60)}; publish it again"
                )
                break


def _near(one: object, other: object) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_near, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return set(one) == set(other) and all(_near(one[name], other[name]) for name in one)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)
    return one is None and other is None


def _unfit(folder: Path, one: Submission, protocol: Protocol) -> Iterator[str]:
    """Records that stand beside no other of the board."""
    for number, record in one.records or ():
        about = f"{folder}/{RECORDS}/{one.name}.jsonl, line {number}"
        if record.metric not in protocol.metrics:
            yield f"{about}: metric is '{said(record.metric)}', and the board has {', '.join(protocol.metrics)}"
            continue
        for axis, text in record.axes.items():
            allowed = protocol.choices(axis)
            if axis not in FREE and text not in allowed:
                yield f"{about}: axis {axis} is '{said(text)}', and the board has {' or '.join(allowed)}"
                break


def _pictures(folder: Path, one: Submission, files: Mapping[str, Path]) -> list[str]:
    lines = []
    rows = {row_name({a: r.axes[a] for a in ROW if a in r.axes}) for _, r in one.records or ()}
    pictures = [path for part, path in files.items() if (m := EXAMPLE.fullmatch(part)) and m[1] == one.name]
    for path in pictures:
        try:
            check_png(path)
        except BenchError as error:
            lines.append(str(error))
        else:
            if one.records is not None and path.stem not in rows:
                lines.append(f"{folder}/{EXAMPLES}/{one.name}/{path.name} shows no row of it; publish it again")
    return lines


def _between(folder: Path, submissions: list[Submission], owners: Collection[str]) -> Iterator[tuple[str, str]]:
    """What is wrong between submissions, by the one that it is wrong in."""
    metas = {one.name: one.meta for one in submissions if one.meta is not None}
    for name, meta in metas.items():
        for other in meta.supersedes:
            if other == "suite":
                about = f"{folder}/{RECORDS}/{name}.toml"
                yield name, f"{about}: supersedes has 'suite', which only the suite corrects; open a dispute instead"
            elif other not in owners:
                about = f"{folder}/{RECORDS}/{name}.toml"
                yield name, f"{about}: supersedes has '{said(other)}', and the board has no such submission"
    try:
        supersedes = closed({name: meta.supersedes for name, meta in metas.items()})
    except BadValue as error:
        yield next(iter(metas)), f"{folder}: {error}"
        return
    cells: dict[object, list[tuple[str, int, Record]]] = {}
    images: dict[object, tuple[str, np.ndarray]] = {}
    metrics: dict[str, tuple[str, Record]] = {}
    for one in submissions:
        for number, record in one.records or ():
            about = f"{folder}/{RECORDS}/{one.name}.jsonl, line {number}"
            there, first = metrics.setdefault(record.metric, (about, record))
            # Who is ahead follows from these: of one metric they are the same for all.
            for part in ("better", "unit", "range"):
                own, others = getattr(record, part), getattr(first, part)
                if own != others:
                    yield (
                        one.name,
                        f"{about}: {part} is '{said(own)}', and '{said(others)}' in {there}; publish it again",
                    )
            mine = (record.metric, tuple(sorted(record.axes.items())))
            for name, line, other in cells.get(mine, ()):
                if not _corrects(supersedes, one.name, name) and {one.name, name} <= set(metas):
                    what = f"key {record.key}" if record.key == other.key else f"{record.metric} of the same axes"
                    yield (
                        one.name,
                        f"{about}: {what} stands in {RECORDS}/{name}.jsonl, line {line}, too; "
                        "leave it out, or name that submission in supersedes",
                    )
                    break
            cells.setdefault(mine, []).append((one.name, number, record))
            found = (one.values or {}).get(record.key)
            if found is None or {"dataset", "split", "samples"} - set(record.axes) or (found.images < 0).any():
                continue
            where = tuple(record.axes[axis] for axis in ("dataset", "split", "samples"))
            there, those = images.setdefault(where, (about, found.images))
            if not np.array_equal(those, found.images):
                yield one.name, f"{about}: measured on other images than {there}; run it on those of the board"


def _corrects(supersedes: Mapping[str, frozenset[str]], one: str, other: str) -> bool:
    return other in supersedes.get(one, ()) or one in supersedes.get(other, ())
