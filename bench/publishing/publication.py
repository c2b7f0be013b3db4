"""From a store to a board: publishes records, and finds stale ones."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from bench.boards import (
    CALMLY,
    EXAMPLES,
    RECORDS,
    ROW,
    UNFINISHED,
    VALUES,
    Record,
    devices,
    read_protocol,
    read_records,
    row_name,
    write_submission,
    write_whole,
)
from bench.boards.submissions.metadata import NAME, SUFFIX, draft, read_meta, read_supersedes
from bench.components import Case, freeze_files
from bench.engine import (
    TENSORS,
    VOCABULARY,
    Cell,
    Graph,
    Memory,
    Store,
    group_by_text,
    prepare_publication,
    published_text,
    read_record,
)
from bench.errors import BadValue, EnvironmentProblem
from bench.files import parse_json, read_file


def publish(
    folder: Path,
    name: str,
    cells: Iterable[Cell],
    store: Store,
    meta: Path | None = None,
    replace: bool = False,
    add: bool = False,
) -> tuple[int, dict[str, int]]:
    """Publish the stored records of cells to a board as the submission `name`.

    Returns the number of records, and how many each other submission has already, which are left out: a row of a new
    explainer shares the accuracy of its networks with existing rows. Where nothing is new, everything is published,
    since that can only be a correction. The file `meta` goes beside the records, or else a draft to fill in. Raises
    EnvironmentProblem where a record is not stored, since a submission is complete or does not exist, and BadValue
    where other records have this name, unless `replace`, which drops them, or `add`, which keeps those: what is
    published already need not be stored.
    """
    import pyarrow
    import pyarrow.parquet

    if not NAME.fullmatch(name):
        raise BadValue(f"submission {name!r}: use lower-case letters, digits and _ . - only")
    if meta is not None:
        read_meta(meta)
    by_key = {cell.key: cell for cell in cells if not cell.refusal}
    for suffix in (".jsonl", ".values.parquet", SUFFIX):  # of a publication that was killed
        (folder / RECORDS / f"{name}{suffix}{UNFINISHED}").unlink(missing_ok=True)
    others = _find_owners(folder / RECORDS, name, meta)
    shared = {key: others[key] for key in by_key if key in others}
    if len(shared) == len(by_key):
        shared = {}
    place = folder / RECORDS
    had = _read_published(place, name) if add else {}
    by_key = {key: cell for key, cell in by_key.items() if key not in shared and key not in had}
    made, missing = dict(had), []
    sums: dict[str, str] = {}
    for key, cell in sorted(by_key.items()):
        record = read_record(store, cell)
        files = store.read("record", key, (VALUES,)) if record else None
        if record is None or files is None:
            missing.append(cell)
            continue
        record = prepare_publication(cell, record)
        weights = _checksum_weights(store, cell, sums)
        record = dataclasses.replace(record, provenance=record.provenance | ({"weights": weights} if weights else {}))
        made[key] = record, pyarrow.parquet.read_table(io.BytesIO(files[VALUES]), **CALMLY)
    if missing:
        raise EnvironmentProblem(
            f"board {folder}: the store {store.root} lacks {len(missing)} of {len(by_key)} records, such as "
            f"{missing[0]}; first run bench run --board {folder} with the same options"
        )
    if not made:
        raise BadValue(f"board {folder}: these options select nothing to publish")
    records = [made[key][0] for key in sorted(made)]
    table = pyarrow.concat_tables(made[key][1] for key in sorted(made))
    lines = [record.line() for record in records]
    same = _lines(place / f"{name}.jsonl") == lines
    if not same and (place / f"{name}.jsonl").exists() and not (replace or add):
        raise BadValue(
            f"submission {name} of board {folder} has other records, and published results do not change: add to them "
            "with --add, or publish a correction under another --name, with supersedes in its metadata; --replace is "
            "for unpublished drafts"
        )
    # Only where the content differs, since another version of pyarrow writes other bytes.
    meta_file = place / f"{name}{SUFFIX}"
    content = meta.read_bytes() if meta is not None else None
    if content is None and not meta_file.exists():
        content = draft(name, "; ".join(devices(records)), datetime.datetime.now(datetime.UTC).date()).encode()
    if not (same and _has_table(place / f"{name}.values.parquet", table)):
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(table, buffer, compression="zstd")
        write_submission(folder, name, records, buffer.getvalue(), content)
    elif content is not None:
        write_whole(meta_file, content)
    return len(records) - len(had), dict(Counter(shared.values()))


def _read_published(place: Path, name: str) -> dict[str, tuple[Record, Any]]:
    """By key, the records of a submission with the tables of their values; none where there is no such submission."""
    import pyarrow.compute
    import pyarrow.parquet

    lines = _lines(place / f"{name}.jsonl")
    if lines is None:
        return {}
    try:
        records = [Record.parse(line) for line in lines]
        table = pyarrow.parquet.read_table(place / f"{name}.values.parquet", **CALMLY)
        keys = table["key"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, pyarrow.ArrowException):
        raise BadValue(
            f"submission {name} in {place} cannot be added to, since its files are damaged; publish it again with "
            "--replace"
        ) from None
    return {record.key: (record, table.filter(pyarrow.compute.equal(keys, record.key))) for record in records}


def _find_owners(place: Path, name: str, meta: Path | None) -> dict[str, str]:
    """By key, the other submissions that have a record, but for those that this one corrects.

    Empty for the suite itself, whose records take precedence.
    """
    own_meta = meta or place / f"{name}{SUFFIX}"
    corrected = read_supersedes(own_meta) if own_meta.exists() else []
    owners: dict[str, str] = {}
    for file in sorted(place.glob("*.jsonl")) if name != "suite" else ():
        if file.stem not in (name, *corrected):
            for line in _lines(file) or ():
                try:
                    owners.setdefault(parse_json(line)["key"], file.stem)
                except (ValueError, TypeError, KeyError):  # the build that follows reports it
                    continue
    return owners


def _checksum_weights(store: Store, cell: Cell, sums: dict[str, str]) -> str:
    """sha256 of the weights that a record was made with; "" where it has none or the store lost them.

    `sums` caches the results.
    """
    if "trained" not in VOCABULARY.reach(cell.names)[1]:
        return ""
    key = VOCABULARY.spec("trained", ("trained",), cell.case).key
    if key not in sums:
        files = store.read("trained", key, (TENSORS,))
        sums[key] = hashlib.sha256(files[TENSORS]).hexdigest() if files else ""
    return sums[key]


def draw_examples(folder: Path, name: str, cells: Iterable[Cell], store: Store, replace: bool = False) -> int:
    """Draw the board's example images for every row of a submission that has none, or with `replace` for all. Returns
    the number of pictures.

    They show stored values under the first attack, at the score's budget or the largest.
    """
    from bench.publishing.examples import make_example
    from bench.publishing.panels import draw_panel

    protocol, count = read_protocol(folder), 0
    first, ball = str(protocol.axes["attack"][0]), protocol.score.ball if protocol.score else ""
    cases: dict[str, Case] = {}
    for cell in cells:
        if cell.refusal or not {"explainer", "attack"} <= cell.axes or str(cell.case.attack) != first:
            continue
        axes = cell.axis_texts(published_text)
        row = row_name({axis: axes[axis] for axis in ROW if axis in axes})
        larger = row not in cases or cell.case.ball.eps > cases[row].ball.eps
        if axes["ball"] == ball or (larger and not ball):
            cases[row] = cell.case
    place, memory = folder / EXAMPLES / name, Memory()
    for file in place.glob("*.png") if replace else ():  # of rows that are no longer there, or have other records
        file.unlink()
    for row, case in cases.items() if protocol.examples else ():
        file = place / f"{row}.png"
        if file.exists():
            continue
        graph = Graph(VOCABULARY, case, store, torch.device("cpu"), memory)
        memory.keep(graph.spec(value) for value in VOCABULARY.values)
        write_whole(file, _shrink(draw_panel([make_example(graph, i) for i in protocol.examples]).as_png()))
        count += 1
    return count


def _shrink(picture: bytes) -> bytes:
    """Reduce a PNG to 128 colours, without anything but its pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture), formats=("PNG",)).convert("RGB").quantize(128).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _lines(file: Path) -> list[str] | None:
    try:
        return read_file(file).decode().splitlines()
    except (OSError, ValueError):
        return None


def _has_table(file: Path, table: Any) -> bool:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(file, **CALMLY).equals(table)
    except (OSError, ValueError, pyarrow.ArrowException):
        return False


@freeze_files()
def describe_stale(folder: Path, cells: Iterable[Cell]) -> list[str]:
    """What has changed since the published records of some cells were made, a line for each change."""
    records = group_by_text(read_records(folder).records)
    by_change: dict[str, list[Cell]] = {}
    for cell in {cell.key: cell for cell in cells}.values():
        for text in cell.find_stale(records, published_text).values():
            by_change.setdefault(text, []).append(cell)
    return [
        f"the published {some[0]} is stale: {text}"
        if len(some) == 1
        else f"{len(some)} published records are stale, such as {some[0]}: {text}"
        for text, some in by_change.items()
    ]
