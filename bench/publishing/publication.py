"""From a store to a board and back: what is published, what has moved since, what a re-run gives."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import io
import json
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from bench.boards.board import EXAMPLES, RECORDS, ROW, devices, read_records, row_name, write_submission
from bench.boards.protocol import Protocol, board_protocol
from bench.boards.record import CALMLY, VALUES, Record
from bench.boards.submissions.metadata import NAME, SUFFIX, draft, read_meta, superseded
from bench.boards.submissions.sanitize import read_record
from bench.components.case import Case
from bench.engine.catalog import Catalog
from bench.engine.evidence import VOCABULARY
from bench.engine.graph import TENSORS, Graph, Memory
from bench.engine.runner import Cell, cells, described, published, published_text, stale, stored_record
from bench.engine.selection import request
from bench.engine.store import Store
from bench.engine.store import key as hashed
from bench.errors import BadValue, BenchError, EnvironmentProblem


def publish(
    folder: Path, name: str, cells: Iterable[Cell], store: Store, meta: Path | None = None, replace: bool = False
) -> tuple[int, dict[str, int]]:
    """Put the stored records of cells into a board as the submission `name`, and say how many they are, and how many
    were left out because another submission has them.

    A row of a new explainer shares the accuracy of its networks with rows that are there; where nothing is new, all is
    published, since that can only be a correction. Beside the records goes the file `meta`, or, where there is none
    yet, one to fill in. Raises EnvironmentProblem where some records are not stored, since a submission is whole or not
    there, and BadValue where other records have this name, unless they may be replaced.
    """
    import pyarrow
    import pyarrow.parquet

    if not NAME.fullmatch(name):
        raise BadValue(f"submission {name!r}: a name has lower-case letters, digits and _ . - only")
    if meta is not None:
        read_meta(meta)
    wanted = {cell.key: cell for cell in cells if not cell.refused}
    theirs = _elsewhere(folder / RECORDS, name, meta)
    shared = {key: theirs[key] for key in wanted if key in theirs}
    if len(shared) == len(wanted):
        shared = {}
    wanted = {key: cell for key, cell in wanted.items() if key not in shared}
    records, tables, missing = [], [], []
    summed: dict[str, str] = {}
    for key, cell in sorted(wanted.items()):
        record = stored_record(store, cell)
        files = store.read("record", key, (VALUES,)) if record else None
        if record is None or files is None:
            missing.append(cell)
            continue
        record = published(cell, record)
        weights = _weights(store, cell, summed)
        records.append(
            dataclasses.replace(record, provenance=record.provenance | ({"weights": weights} if weights else {}))
        )
        tables.append(pyarrow.parquet.read_table(io.BytesIO(files[VALUES]), **CALMLY))
    if missing:
        raise EnvironmentProblem(
            f"board {folder}: {len(missing)} of {len(wanted)} records are not in the store {store.root}, the first is "
            f"{missing[0]}; run bench run --board {folder} with the same options first"
        )
    if not records:
        raise BadValue(f"board {folder}: nothing is asked that could be published")
    table = pyarrow.concat_tables(tables)
    place = folder / RECORDS
    lines = [record.line() for record in records]
    same = _lines(place / f"{name}.jsonl") == lines
    if not same and (place / f"{name}.jsonl").exists() and not replace:
        raise BadValue(
            f"submission {name} of board {folder} has other records, and results stay as they are: publish a "
            "correction under another --name, with supersedes in its metadata; --replace is for what nobody has seen"
        )
    # To the byte: another version of what writes them would write others.
    if not (same and _holds(place / f"{name}.values.parquet", table)):
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(table, buffer, compression="zstd")
        write_submission(folder, name, records, buffer.getvalue())
    beside = place / f"{name}{SUFFIX}"
    if meta is not None:
        beside.write_bytes(meta.read_bytes())
    elif not beside.exists():
        year = datetime.datetime.now(datetime.UTC).year
        beside.write_text(draft(name, "; ".join(devices(records)), year), encoding="utf-8")
    return len(records), dict(Counter(shared.values()))


def _elsewhere(place: Path, name: str, meta: Path | None) -> dict[str, str]:
    """The keys of the records that other submissions have, with whose they are; not those that this one corrects. The
    suite's own are never left out: of two records of one key they count."""
    beside = meta or place / f"{name}{SUFFIX}"
    corrected = superseded(beside) if beside.exists() else []
    found: dict[str, str] = {}
    for file in sorted(place.glob("*.jsonl")) if name != "suite" else ():
        if file.stem not in (name, *corrected):
            for line in _lines(file) or ():
                try:
                    found.setdefault(json.loads(line)["key"], file.stem)
                except (ValueError, TypeError, KeyError):  # the build that follows says what is wrong with it
                    continue
    return found


def _weights(store: Store, cell: Cell, summed: dict[str, str]) -> str:
    """sha256 of the stored weights that a record was made with, "" where it has none or the store holds them no more;
    `summed` keeps those that are known."""
    if "trained" not in VOCABULARY.reach(cell.names)[1]:
        return ""
    key = hashed(VOCABULARY.spec("trained", ("trained",), cell.case))
    if key not in summed:
        files = store.read("trained", key, (TENSORS,))
        summed[key] = hashlib.sha256(files[TENSORS]).hexdigest() if files else ""
    return summed[key]


def draw(folder: Path, name: str, cells: Iterable[Cell], store: Store) -> int:
    """Draw the board's example images for every row of a submission that has none, from what is stored: under the first
    attack, at the budget of the score or the largest. Says how many pictures were written."""
    from bench.publishing.panels import drawn, example

    protocol, count = board_protocol(folder), 0
    first, ball = str(protocol.axes["attack"][0]), protocol.score.ball if protocol.score else ""
    cases: dict[str, Case] = {}
    for cell in cells:
        if cell.refused or not {"explainer", "attack"} <= cell.axes or str(cell.case.attack) != first:
            continue
        axes = described(cell, published_text)
        row = row_name({axis: axes[axis] for axis in ROW if axis in axes})
        larger = row not in cases or cell.case.ball.eps > cases[row].ball.eps
        if axes["ball"] == ball or (larger and not ball):
            cases[row] = cell.case
    place, memory = folder / EXAMPLES / name, Memory()
    for row, case in cases.items() if protocol.examples else ():
        file = place / f"{row}.png"
        if file.exists():
            continue
        graph = Graph(VOCABULARY, case, store, torch.device("cpu"), memory)
        memory.keep(graph.spec(value) for value in VOCABULARY.values)
        place.mkdir(parents=True, exist_ok=True)
        file.write_bytes(small(drawn([example(graph, i) for i in protocol.examples])))
        count += 1
    return count


def small(picture: bytes) -> bytes:
    """A PNG of 128 colours and nothing but its pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(128).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _lines(file: Path) -> list[str] | None:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None


def _holds(file: Path, table: Any) -> bool:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(file, **CALMLY).equals(table)
    except (OSError, ValueError, pyarrow.ArrowException):
        return False


def moved(folder: Path, cells: Iterable[Cell]) -> list[str]:
    """What has moved since the published records of some cells were made, a line for each thing."""
    records = read_records(folder).records
    found: dict[str, list[Cell]] = {}
    for cell in {cell.key: cell for cell in cells}.values():
        for text in stale(cell, records, published_text):
            found.setdefault(text, []).append(cell)
    return [f"{len(theirs)} published records are stale, such as {theirs[0]}: {text}" for text, theirs in found.items()]


def published_of(records: Iterable[Record], cells: Iterable[Cell]) -> list[Record]:
    """The published records, current or not, whose texts are those of some cells."""
    texts = [(cell.metric.published, described(cell, published_text)) for cell in cells]
    return [record for record in records if (record.metric, record.axes) in texts]


def submitted(folder: Path, name: str) -> list[Record]:
    """The records of one submission to a board, read strictly."""
    file = folder / RECORDS / f"{name}.jsonl"
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise BadValue(f"board {folder}: no submission called {name!r} ({error.strerror}); see its {RECORDS}") from None
    return [read_record(f"{file}, line {number}", line) for number, line in enumerate(lines, 1)]


def sampled(board: str, records: Iterable[Record], count: int, draw: str = "") -> list[Record]:
    """A few of a board's records, by lot: which ones follows from the board's name, all keys and a text `draw`."""
    records = sorted(records, key=lambda record: record.key)
    lot = random.Random("\n".join([board, *(record.key for record in records), draw]))
    return lot.sample(records, min(count, len(records)))


def cells_of(records: Iterable[Record], catalog: Catalog, protocol: Protocol) -> tuple[list[Cell], dict[str, str]]:
    """The cells that published records are of, and by key why a record cannot be asked for here."""
    found: dict[str, Cell] = {}
    problems = {}
    for record in records:
        given = {axis: [text] for axis, text in record.axes.items() if axis != "ball"}
        if "ball" in record.axes:
            norm, _, eps = record.axes["ball"].partition(":")
            given |= {"norm": [norm], "eps": [eps]}
        try:
            asked = request(catalog, {**given, "metric": [record.metric]}, False, protocol)
            found |= {c.key: c for c in cells(catalog, asked.cases, asked.metrics) if published_of([record], [c])}
        except BenchError as error:
            problems[record.key] = f"{record.metric} of {record.axes.get('defense', '')} cannot be run here: {error}"
    return list(found.values()), problems
