"""From a store to a board and back: what is published, what has moved since, what a re-run gives."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path

from bench.board import read_records, write_submission
from bench.errors import BadValue, EnvironmentProblem
from bench.record import VALUES, Record
from bench.runner import Cell, described, published, published_text, stale, stored_record
from bench.store import Store

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


def publish(folder: Path, name: str, cells: Iterable[Cell], store: Store) -> int:
    """Put the stored records of cells into a board as the submission `name`, and say how many they are.

    Raises EnvironmentProblem where some are not stored: a submission is whole or not there.
    """
    import pyarrow
    import pyarrow.parquet

    if not NAME.fullmatch(name):
        raise BadValue(f"submission {name!r}: a name has lower-case letters, digits and _ . - only")
    wanted = {cell.key: cell for cell in cells if not cell.refused}
    records, tables, missing = [], [], []
    for key, cell in sorted(wanted.items()):
        record = stored_record(store, cell)
        files = store.read("record", key, (VALUES,)) if record else None
        if record is None or files is None:
            missing.append(cell)
            continue
        records.append(published(cell, record))
        tables.append(pyarrow.parquet.read_table(io.BytesIO(files[VALUES])))
    if missing:
        raise EnvironmentProblem(
            f"board {folder}: {len(missing)} of {len(wanted)} records are not in the store {store.root}, the first is "
            f"{missing[0]}; run bench run --board {folder} with the same options first"
        )
    if not records:
        raise BadValue(f"board {folder}: nothing is asked that could be published")
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.concat_tables(tables), buffer, compression="zstd")
    write_submission(folder, name, records, buffer.getvalue())
    return len(records)


def moved(folder: Path, cells: Iterable[Cell]) -> list[str]:
    """What has moved since the published records of some cells were made, a line for each thing."""
    records, _ = read_records(folder)
    found: dict[str, list[Cell]] = {}
    for cell in {cell.key: cell for cell in cells}.values():
        for text in stale(cell, records, published_text):
            found.setdefault(text, []).append(cell)
    return [f"{len(theirs)} published records are stale, such as {theirs[0]}: {text}" for text, theirs in found.items()]


def published_of(records: Iterable[Record], cells: Iterable[Cell]) -> list[Record]:
    """The published records, current or not, whose texts are those of some cells."""
    texts = [(cell.metric.published, described(cell, published_text)) for cell in cells]
    return [record for record in records if (record.metric, record.axes) in texts]
