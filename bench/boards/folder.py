"""The files of a board's folder: records and the values of their images, and what is generated from them. Uses neither
torch nor plugins."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.boards.doubts import Images
from bench.boards.record import Record
from bench.boards.submissions.attachments import check_footer
from bench.boards.submissions.metadata import SUFFIX, read_corrections
from bench.errors import BadValue, EnvironmentProblem, quote_error
from bench.files import check_file, read_file

RECORDS, EXAMPLES = "records", "examples"
ROWS = "rows.js"  # of a board with more rows than its page begins with
GENERATED = ("README.md", "table.csv", "table.tex", "board.json", "index.html", ROWS)
UNFINISHED = ".unfinished"  # after the name of a file that is being written


class RecordSet(NamedTuple):
    """The records of a board, each key once, and by key the submission."""

    records: list[Record]
    origin: dict[str, str]


def read_records(folder: Path) -> RecordSet:
    """The records of a board's submissions. Where one submission supersedes another, its records replace those of the
    same key, or of the same metric and axes."""
    records: dict[str, Record] = {}
    origin: dict[str, str] = {}
    supersedes = read_corrections(folder / RECORDS)
    for file in _list_submissions(folder):
        try:
            lines = read_file(file).splitlines()
        except OSError as error:
            raise EnvironmentProblem(f"{file} cannot be read ({error.strerror}); publish {file.stem} again") from None
        for number, line in enumerate(lines, 1):
            try:
                record = Record.parse(line)
            except (ValueError, TypeError, KeyError, AttributeError):
                raise BadValue(f"{file}, line {number}: no record of this version; publish it again") from None
            if record.key not in records or origin[record.key] in supersedes.get(file.stem, ()):
                records[record.key], origin[record.key] = record, file.stem
    if not any(supersedes.values()):
        return RecordSet(list(records.values()), origin)
    cases: dict[tuple[str, str], list[Record]] = {}
    for record in records.values():
        cases.setdefault(_case_of(record), []).append(record)
    current = [
        record
        for record in records.values()
        if not any(origin[record.key] in supersedes.get(origin[o.key], ()) for o in cases[_case_of(record)])
    ]
    return RecordSet(current, origin)


def read_images(folder: Path, origin: Mapping[str, str]) -> Images:
    """The values of the images, by the keys of a board's records, from the submissions that these are of."""
    return {
        key: each
        for file in _list_submissions(folder)
        for key, each in _read_values(file).items()
        if origin.get(key) == file.stem
    }


def _list_submissions(folder: Path) -> list[Path]:
    """The suite's own first: of two records of one key, the first counts."""
    return sorted((folder / RECORDS).glob("*.jsonl"), key=lambda f: (f.stem != "suite", f.name))


def _case_of(record: Record) -> tuple[str, str]:
    """What a record is about: there is one record of a metric and a case."""
    return record.metric, str(sorted(record.axes.items()))


def _read_values(records: Path) -> dict[str, list[tuple[float | None, bool | None]]]:
    """By key, from the file next to one of records: each image's mean over levels, None where a level is undefined, and
    whether its prediction was kept."""
    import pyarrow.parquet

    file = records.with_suffix(".values.parquet")
    try:
        check_file(file)
        # As a dictionary, a long key that repeats takes its memory once.
        with pyarrow.parquet.ParquetFile(file, read_dictionary=["key"], pre_buffer=False) as opened:
            check_footer(file, opened.metadata)
            columns = ["key", "image", "value", "kept"]
            table = opened.read(columns, use_threads=False).unify_dictionaries().combine_chunks()
        parts = table["key"].chunks
        names = parts[0].dictionary.to_pylist() if parts else []
        places = np.concatenate([np.from_dlpack(part.indices) for part in parts]) if parts else np.empty(0, int)
        images, values, same = (table[column].to_pylist() for column in columns[1:])
    except FileNotFoundError:
        raise EnvironmentProblem(f"{file} is not there; publish {records.stem} again") from None
    except (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException) as error:
        raise EnvironmentProblem(
            f"{file} cannot be read ({quote_error(error)}); publish {records.stem} again"
        ) from None
    rows: dict[str, list[tuple[int, float | None, bool | None]]] = {}
    starts = [*np.flatnonzero(np.diff(places, prepend=-1)).tolist(), len(places)]
    for start, end in itertools.pairwise(starts):
        part = zip(images[start:end], values[start:end], same[start:end], strict=True)
        rows.setdefault(names[places[start]], []).extend(part)
    return {key: _average_rows(each) for key, each in rows.items()}


def _average_rows(rows: Sequence[tuple[int, float | None, bool | None]]) -> list[tuple[float | None, bool | None]]:
    """By image, from image, value and whether the prediction was kept, a row for each level."""
    if len({image for image, _, _ in rows}) == len(rows):
        return [(value, kept) for _, value, kept in rows]
    levels: dict[int, list[float | None]] = {}
    for image, value, _ in rows:
        levels.setdefault(image, []).append(value)
    kept = {image: each for image, _, each in rows}
    return [(_mean_of_levels(values), kept[image]) for image, values in levels.items()]


def _mean_of_levels(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(values) if len(defined) == len(values) else None


def check_one_version(folder: Path, records: Iterable[Record]) -> None:
    """Raise BadValue where two records are of one metric and case and of two keys: a mean over both says nothing."""
    keys: dict[tuple[str, str], str] = {}
    for record in records:
        case = _case_of(record)
        if keys.setdefault(case, record.key) != record.key:
            raise BadValue(
                f"board {folder}: two records of {record.metric} of {record.axes.get('defense', '')} have the keys "
                f"{keys[case]} and {record.key}, from other versions or other data; publish the older one again"
            )


def write_submission(folder: Path, name: str, records: Iterable[Record], values: bytes, meta: bytes | None) -> None:
    """Write a submission into a board: its records, a line each and sorted by key, the values of their images, and its
    metadata, None to leave them as they are. The records come last: without them there is no submission."""
    place = folder / RECORDS
    lines = [record.line() for record in sorted(records, key=lambda r: r.key)]
    write_whole(place / f"{name}.values.parquet", values)
    if meta is not None:
        write_whole(place / f"{name}{SUFFIX}", meta)
    write_whole(place / f"{name}.jsonl", "".join(f"{line}\n" for line in lines).encode())


def write_whole(file: Path, content: bytes) -> None:
    """Write a file that is there in full or not at all, also where the process is killed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(file.name + UNFINISHED)
    unfinished.write_bytes(content)
    os.replace(unfinished, file)


def find_outdated(folder: Path, files: Mapping[str, str]) -> list[str]:
    """The names of generated files that are missing or have other contents."""
    return [name for name, text in files.items() if not _holds(folder / name, text)]


def _holds(path: Path, text: str) -> bool:
    try:
        return read_file(path) == text.encode()
    except OSError:
        return False
