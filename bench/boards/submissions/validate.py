"""Validates the files of submissions to a board, without running anything. Needs neither torch nor plugins."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np

from bench.boards.board import ROW, row_name
from bench.boards.folder import EXAMPLES, GENERATED, RECORDS
from bench.boards.marks import VERIFIED, read_marks
from bench.boards.networks import TOTAL, WEIGHTS
from bench.boards.protocol import FILE, Protocol, read_protocol
from bench.boards.statistics import Summary, summarise
from bench.boards.submissions.attachments import Values, check_png, read_values
from bench.boards.submissions.compare import (
    Submission,
    compare_parts,
    compare_submissions,
    compare_with_protocol,
    find_idle_tolerances,
)
from bench.boards.submissions.metadata import NAME, SIZE, read_meta
from bench.boards.submissions.ownership import find_stranger
from bench.boards.submissions.reference import Reference
from bench.boards.submissions.sanitize import AGAIN, Line, read_record
from bench.errors import BadValue, EnvironmentProblem, UnknownName
from bench.shapes import clean, quote

T = TypeVar("T")
Files: TypeAlias = dict[str, Path | None]  # by path in the board; None for one that is refused
BOARD_FILES = (FILE, VERIFIED, *GENERATED)  # which no submission adds
BOARD_FOLDERS = re.compile(rf"{RECORDS}|{WEIGHTS}|{EXAMPLES}(/{NAME.pattern})?")
WEIGHT_FILES = re.compile(rf"{WEIGHTS}/[0-9a-f]{{16}}\.(md|safetensors)")  # which `inspect_index` checks
SUBMISSION_FILES = re.compile(
    rf"{RECORDS}/({NAME.pattern})\.(jsonl|values\.parquet|toml)|{EXAMPLES}/({NAME.pattern})/[0-9a-f]{{16}}\.(png)"
)
LARGEST_FILES = {"jsonl": 20_000_000, "values.parquet": 50_000_000, "toml": SIZE, "png": 300_000}  # bytes
LARGEST_GENERATED = 200_000_000  # bytes: 5,000 rows take 36 MB of board.json
MOST_FILES = 100_000
SHOWN = 10  # problems of one kind in one file
CLOSE = 1e-9


@dataclass
class Report:
    """What is wrong, one line each, and how much was checked."""

    problems: list[str] = field(default_factory=list)
    submissions: int = 0
    records: int = 0


def validate(folder: Path, names: Collection[str] = (), base: Path | None = None) -> list[str]:
    """Everything that is wrong with a board's submissions, or with those of some names, one line each."""
    return inspect(folder, names, base).problems


def inspect(folder: Path, names: Collection[str] = (), base: Path | None = None, author: str = "") -> Report:
    """Check a board's submissions, or those of some names, as far as their files tell.

    `base` is the same board as it was before: what is published stays as it is, and what is new belongs to the login
    `author`, if there is one. A file that cannot be read stops the check of no other. Raises EnvironmentProblem where
    the folder itself cannot be read.
    """
    try:
        return _inspect(folder, names, base, author)
    except OSError as error:
        raise EnvironmentProblem(
            f"board {folder} cannot be read ({clean(str(error))}); check its permissions"
        ) from None


def _inspect(folder: Path, names: Collection[str], base: Path | None, author: str) -> Report:
    if not folder.is_dir():
        raise EnvironmentProblem(f"board {folder} cannot be read; name a folder that has a {FILE}")
    files, problems = _list_files(folder)
    before = _list_files(base)[0] if base is not None and base.is_dir() else {}
    published = {_owner(part) for part in before}
    # Who is first is compared with nobody, and later ones with him.
    owners = sorted(
        {owner for part in files if (owner := _owner(part))},
        key=lambda name: (name != "suite", name not in published, name),
    )
    for name in names:
        if name not in owners:
            raise UnknownName(f"board {folder}: no submission called {quote(name)}")
    if base is not None and folder.is_symlink():
        problems.append(f"{folder} is a link; replace it by the folder itself")
    problems += _find_changes(folder, files, before)
    refused = FILE in files and files[FILE] is None
    protocol = None if refused else _attempt(problems, read_protocol, folder)
    same = _find_checked(files, before)
    needed = set(names) if names else set(owners) - same
    # Only the suite's values say something of others': the rest is read where it is what is checked.
    submissions = [_read_submission(folder, files, name, name in needed or name == "suite") for name in owners]
    for one in submissions:
        _check_pictures(files, one, protocol)
    problems += _compare(folder, submissions, protocol)
    if files.get(VERIFIED):
        _attempt(problems, read_marks, folder)
    if author:
        for one in submissions:
            if one.meta and one.name not in published and (problem := find_stranger(one.name, one.meta, author)):
                one.problems.append(f"{folder}/{RECORDS}/{one.name}.toml: {problem}")
    problems += [problem for one in submissions if not names or one.name in names for problem in one.problems]
    return Report(
        [clean(problem, 1000) for problem in problems],
        sum(one.lines is not None for one in submissions),
        sum(len(one.lines or ()) for one in submissions),
    )


def _compare(folder: Path, submissions: list[Submission], protocol: Protocol | None) -> list[str]:
    """Compare submissions with the protocol, the suite's records and one another. Returns what is wrong with the
    protocol."""
    suite = next((one for one in submissions if one.name == "suite"), None)
    reference = None
    if protocol is not None and suite is not None and suite.lines is not None:
        reference = Reference(protocol, suite.lines, suite.values or {})
    for one in submissions:
        if suite is None and one.lines is not None:
            one.problems.append(f"{folder}/{RECORDS} has no suite.jsonl to compare {one.name} with; publish that first")
        problems = []
        for line in one.lines or ():
            problem = compare_with_protocol(line.record, protocol) if protocol else None
            if problem is None and reference is not None:
                # Where the suite's values cannot be read, that is its problem.
                values = (one.values or {}).get(line.record.key) if suite and suite.values is not None else None
                problem = reference.find_problem(line.record, values)
            if problem is None:
                one.sound.append(line)
            else:
                problems.append(f"{line.about}: {problem}")
        one.problems += _shorten(f"{folder}/{RECORDS}/{one.name}.jsonl", [*problems, *compare_parts(one)])
    told = [len(one.problems) for one in submissions]
    if submissions:
        compare_submissions(f"{folder}/{RECORDS}", submissions, protocol)
    for one, count in zip(submissions, told, strict=True):
        one.problems[count:] = _shorten(f"{folder}/{RECORDS}/{one.name}", one.problems[count:])
    wrong = [*(find_idle_tolerances(protocol) if protocol else ()), *(reference.find_defaults() if reference else ())]
    return [f"{folder}/{FILE}: {text}" for text in wrong]


def _owner(part: str) -> str | None:
    """The submission to which a path in a board belongs."""
    match = SUBMISSION_FILES.fullmatch(part)
    return (match[1] or match[3]) if match else None


def _list_files(folder: Path) -> tuple[Files, list[str]]:
    files: Files = {}
    problems: list[str] = []
    folders, count = [folder], 0
    while folders:
        for entry in sorted(os.scandir(folders.pop()), key=lambda entry: entry.name):
            count += 1
            if count > MOST_FILES:
                return files, [*problems, f"{folder} has more than {MOST_FILES} files; remove what is no submission"]
            path = Path(entry.path)
            part, status = path.relative_to(folder).as_posix(), entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode) and BOARD_FOLDERS.fullmatch(part):
                folders.append(path)
            elif problem := _find_refusal(part, status):
                files[part] = None
                problems.append(f"{folder}/{clean(part)} {problem}")
            else:
                files[part] = path
    return files, problems


def _find_refusal(part: str, status: os.stat_result) -> str:
    """Why a file or folder is not accepted, "" if it is."""
    match = SUBMISSION_FILES.fullmatch(part)
    weights = WEIGHT_FILES.fullmatch(part)
    kind = (match[2] or match[4]) if match else "toml" if part == FILE else "jsonl"
    largest = TOTAL if weights else LARGEST_GENERATED if part in GENERATED else LARGEST_FILES[kind]
    if stat.S_ISLNK(status.st_mode):
        return "is a link; replace it by the file itself"
    if stat.S_ISDIR(status.st_mode):
        return "is a folder that no board has; remove it"
    if not stat.S_ISREG(status.st_mode) or not (match or weights or part in BOARD_FILES):
        return (
            f"is not a file of a board; submissions have {RECORDS}/NAME.jsonl, .values.parquet and .toml, and "
            f"{EXAMPLES}/NAME/KEY.png"
        )
    if status.st_size > largest:
        return f"has {status.st_size} bytes; at most {largest} are allowed"
    return "" if status.st_size else "is empty; publish it again or remove it"


def _find_changes(folder: Path, files: Files, before: Files) -> Iterator[str]:
    """What was published and differs now, and what a submission may not touch."""
    if not any(before.values()):
        return  # a new board
    for part in sorted({part for part in before if before[part]} | set(files)):
        about, old, new = f"{folder}/{clean(part)}", before.get(part), files.get(part)
        if (part in files and not new) or (old and new and _are_same(old, new)):
            continue
        if _owner(part) is None:
            yield f"{about} has changed, but a submission only adds records and examples; restore it"
        elif old:
            what = "has changed since it was published" if new else "was published and is gone"
            yield f"{about} {what}; results stay: publish a correction under a new name, with supersedes"


def _are_same(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()


def _find_checked(files: Files, before: Files) -> set[str]:
    """The submissions that are as they were, on a board whose protocol and suite are as they were: what their values
    say was checked when they were published."""
    parts: dict[str, list[str]] = {FILE: [FILE]}
    for part in files.keys() | before.keys():
        parts.setdefault(_owner(part) or part, []).append(part)
    same = {
        name
        for name, those in parts.items()
        if all((old := before.get(part)) and (new := files.get(part)) and _are_same(old, new) for part in those)
    }
    return same if {FILE, "suite"} <= same else set()


def _read_submission(folder: Path, files: Files, name: str, with_values: bool) -> Submission:
    """The parts of one submission, each checked by itself and against the others where these can be read."""
    one, about = Submission(name), f"{folder}/{RECORDS}/{name}"
    parts = [f"{RECORDS}/{name}.{kind}" for kind in ("toml", "values.parquet", "jsonl")]
    missing = [part for part in parts if part not in files]
    if missing and all(files.get(part) or part in missing for part in parts):
        hint = "bench leaderboard publish writes all three parts"
        one.problems.append(f"{folder}/{missing[-1]} is missing from submission {clean(name)}; {hint}")
    meta, values, records = (files.get(part) for part in parts)
    one.meta = _attempt(one.problems, read_meta, meta)
    if records:
        lines, problems = _read_lines(records)
        one.lines = None if problems else lines
        one.problems += _shorten(str(records), problems)
    one.values = _attempt(one.problems, read_values, values) if with_values else None
    if one.lines is not None and one.values is not None:
        problems = list(_compare_with_values(f"{about}.values.parquet", one.lines, one.values))
        one.problems += _shorten(about, problems)
        one.values = None if problems else one.values
    return one


def _attempt(problems: list[str], read: Callable[[Path], T], file: Path | None) -> T | None:
    try:
        return read(file) if file else None
    except BadValue as error:
        problems.append(str(error))
        return None


def _shorten(about: str, problems: Iterable[str]) -> list[str]:
    problems = list(problems)
    rest = len(problems) - SHOWN
    return problems[:SHOWN] + ([f"{about}: {rest} more problems like these"] if rest > 0 else [])


def _read_lines(file: Path) -> tuple[list[Line], list[str]]:
    """The records of a file, and what is wrong with its lines."""
    by_key: dict[str, Line] = {}
    problems = []
    for number, raw in enumerate(file.read_bytes().removesuffix(b"\n").split(b"\n"), 1):
        about = f"{file}, line {number}"
        try:
            record = read_record(about, raw)
        except BadValue as error:
            problems.append(str(error))
            continue
        first = by_key.setdefault(record.key, Line(about, record))
        if first.about != about:
            problems.append(f"{about}: key {record.key} is in {first.about} too; remove one of them")
    return list(by_key.values()), problems


def _compare_with_values(file: str, lines: list[Line], values: Mapping[str, Values]) -> Iterator[str]:
    """Where records are not what the values of their images give."""
    for key in sorted(set(values) - {record.key for _, record in lines}):
        yield f"{file} has values of {quote(key)}, which is not a record; publish it again"
    for about, record in lines:
        if record.key not in values and not record.undefined_because:
            yield f"{about}: key {record.key} has neither values in {file} nor undefined_because; publish it again"
            continue
        none = Values(np.empty(0, np.int64), ("",), np.empty((0, 1)), None)
        own = values.get(record.key, none)
        summary = summarise(own.values, own.names, own.kept, record.range)
        for part in Summary.__dataclass_fields__:
            stated, computed = getattr(record, part), getattr(summary, part)
            if not _are_close(stated, computed):
                yield f"{about}: {part} is {quote(stated, 60)}, but its images give {quote(computed, 60)}; {AGAIN}"
                break


def _are_close(one: object, other: object) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_are_close, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return set(one) == set(other) and all(_are_close(one[name], other[name]) for name in one)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)
    return one is None and other is None


def _check_pictures(files: Files, one: Submission, protocol: Protocol | None) -> None:
    """Under an attack of its own, a submission may have records of rows of others, of which it has no pictures."""
    attacks = protocol.choices("attack") if protocol else []
    own = [r for _, r in one.lines or () if not protocol or r.axes.get("attack") in (None, *attacks)]
    rows = {row_name({axis: r.axes[axis] for axis in ROW if axis in r.axes}) for r in own}
    for part, path in files.items():
        if path and part.startswith(f"{EXAMPLES}/{one.name}/"):
            count = len(one.problems)
            _attempt(one.problems, check_png, path)
            if len(one.problems) == count and one.lines is not None and path.stem not in rows:
                one.problems.append(f"{path} shows no row of the submission; publish it again")
