"""Runs published records again, and says what a new run does not confirm."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.boards import RECORDS, VALUES, Protocol, Record, Run, compare_runs, find_new_flags, read_records
from bench.boards.submissions.attachments import read_values
from bench.boards.submissions.sanitize import read_record
from bench.engine import (
    Catalog,
    Cell,
    Store,
    describe_troubles,
    group_by_text,
    group_reasons,
    list_cells,
    prepare_publication,
    published_text,
    run_cells,
    select_record,
)
from bench.errors import BadValue, BenchError
from bench.files import read_file
from bench.publishing.pins import check_data


@dataclass(frozen=True)
class Verification:
    """`confirmed` and `denied` are the keys of records that a new run agrees with or not, `missing` those that it
    lacks; `lines` say why, one for each thing, and `notes` are no reason. `commits` made the new records, and
    `exit_code` is that of a run."""

    confirmed: list[str]
    denied: list[str]
    missing: list[str]
    lines: list[str]
    notes: list[str]
    commits: set[str]
    exit_code: int


def match_records(records: Iterable[Record], cells: Iterable[Cell]) -> list[Record]:
    """The published records, stale ones included, that have the texts of some cells."""
    texts = [(cell.metric.published, cell.axis_texts(published_text)) for cell in cells]
    return [record for record in records if (record.metric, record.axes) in texts]


def read_published(folder: Path, cells: Iterable[Cell]) -> list[Run]:
    """What a board has published of some cells."""
    records, origin = read_records(folder)
    chosen = match_records(records, cells)
    names = {origin[record.key] for record in chosen}
    values = {name: read_values(folder / RECORDS / f"{name}.values.parquet") for name in names}
    return [Run(record, values[origin[record.key]].get(record.key)) for record in chosen]


def read_submission(folder: Path, name: str) -> list[Run]:
    """What one submission to a board has published, read strictly."""
    file = folder / RECORDS / f"{name}.jsonl"
    try:
        lines = read_file(file).splitlines()
    except OSError as error:
        raise BadValue(f"board {folder}: no submission called {name!r} ({error.strerror}); see its {RECORDS}") from None
    values = read_values(folder / RECORDS / f"{name}.values.parquet")
    records = [read_record(f"{file}, line {number}", line) for number, line in enumerate(lines, 1)]
    return [Run(record, values.get(record.key)) for record in records]


def draw_sample(board: str, runs: Iterable[Run], count: int, nonce: str) -> list[Run]:
    """Draw a few of a board's records. The lot follows from the board's name, all keys and the nonce, which has to be
    made after the records: whoever knows it earlier can lie where it does not look."""
    runs = sorted(runs, key=lambda run: run.record.key)
    lot = random.Random("\n".join([board, *(run.record.key for run in runs), nonce]))
    return lot.sample(runs, min(count, len(runs)))


def run_again(
    protocol: Protocol,
    published: Iterable[Run],
    catalog: Catalog,
    store: Store,
    device: torch.device,
    cells: list[Cell] | None = None,
    strict: bool = True,
) -> Verification:
    """Compute published records, or all of some cells, and compare them.

    Flags near their threshold come and go with the processor. If `strict`, a new flag denies a record.
    """
    runs, problems = list(published), dict[str, str]()
    if cells is None:
        cells, problems = make_cells((run.record for run in runs), catalog, protocol)
    check_data(protocol, catalog, {cell.case.dataset for cell in cells})
    cells, stale = _leave_out_stale(cells, [run.record for run in runs])
    problems |= stale
    outcome = run_cells(cells, catalog, store, device)
    again = {}
    for cell in cells:
        if (record := outcome.records.get(cell.key)) and cell.key not in again:
            values = read_values(store.folder("record", cell.key) / VALUES).get(cell.key)
            again[cell.key] = Run(prepare_publication(cell, record), values)
    failed = {cell.key for cell in cells if cell.refusal or cell.key in outcome.failures}
    runs = [run for run in runs if run.record.key not in {*problems, *failed}]
    differences, flags = compare_runs(protocol, runs, again), find_new_flags(runs, again)
    for key in flags if strict else ():
        differences[key] += flags[key]
    told = group_reasons((what, why) for what, _, why in (text.partition(": ") for text in problems.values()))
    return Verification(
        [key for key, lines in differences.items() if not lines],
        [key for key, lines in differences.items() if lines],
        [*problems, *sorted(failed)],
        [*told, *describe_troubles(outcome), *(line for lines in differences.values() for line in lines)],
        [] if strict else [line for lines in flags.values() for line in lines],
        {run.record.provenance["commit"] for run in again.values()},
        outcome.exit_code,
    )


def _leave_out_stale(cells: Iterable[Cell], records: list[Record]) -> tuple[list[Cell], dict[str, str]]:
    """The cells without those of which only other versions made records, with which a new run cannot be compared, and
    by the key of each such record what has changed since."""
    keys, by_text = {record.key for record in records}, group_by_text(records)
    current: list[Cell] = []
    problems: dict[str, str] = {}
    for cell in cells:
        changes = cell.find_stale(by_text, published_text)
        what = f"{cell.metric.published} of {published_text(cell.case.defense)}"
        problems |= {key: f"{what} is stale: {text}; publish the board again" for key, text in changes.items()}
        if cell.key in keys or not changes:
            current.append(cell)
    return current, problems


def tell_absent(whose: str, records: Iterable[Record], catalog: Catalog) -> str:
    """What to install, as the end of a message: the distributions that made records and are missing here, if any."""
    here = {plugin.distribution for plugin in catalog.plugins}
    plugins = [record.provenance.get("plugins") for record in records]
    made = {str(text) for each in plugins if isinstance(each, dict) for text in each.values()}
    absent = sorted(text for text in made if text.partition(" ")[0] not in here)
    return f"; {whose} were made with {', '.join(absent)}, which is not installed" if absent else ""


def make_cells(records: Iterable[Record], catalog: Catalog, protocol: Protocol) -> tuple[list[Cell], dict[str, str]]:
    """The cells of published records, and by key why a record cannot be computed here."""
    by_key: dict[str, Cell] = {}
    problems = {}
    for record in records:
        try:
            selection = select_record(catalog, record.metric, record.axes, protocol)
            cells = list_cells(catalog, selection.cases, selection.metrics)
            by_key |= {cell.key: cell for cell in cells if match_records([record], [cell])}
        except BenchError as error:
            why = f"{error}{tell_absent('its records', [record], catalog)}"
            problems[record.key] = f"{record.metric} of {record.axes.get('defense', '')} cannot be run here: {why}"
    return list(by_key.values()), problems
