"""The outcome of a run in words: the table of its records, and what was refused or failed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench.boards import VALUES, Curve, Record, average_levels, find_curves, group_by_budget
from bench.boards.render import format_table
from bench.boards.submissions.attachments import Values, read_values
from bench.components import freeze_files
from bench.engine.cells import Cell
from bench.engine.runner import Outcome
from bench.engine.store import Store
from bench.errors import explain_failure


@freeze_files()
def format_records(outcome: Outcome, width: int | None = None) -> str:
    """A table with a row for each case and a column for each metric; "" where there are no records.

    `width` is that of a terminal, which it then fits.
    """
    rows = arrange_records(outcome)
    return format_table(rows, list(dict.fromkeys(str(cell.metric) for cell in outcome.cells)), width) if rows else ""


def arrange_records(outcome: Outcome) -> list[tuple[dict[str, str], dict[str, Record]]]:
    """The axes of each case that has records, and its records by metric."""
    by_case: dict[Any, dict[str, Record]] = {}
    for cell in outcome.cells:
        if cell.key in outcome.records:
            by_case.setdefault(cell.case, {})[str(cell.metric)] = outcome.records[cell.key]
    return [({axis: str(value) for axis, value in case.axes.items()}, records) for case, records in by_case.items()]


def list_curves(records: Iterable[Record], store: Store) -> list[Curve]:
    """The scores of some stored records over budgets, where there are several."""
    rows = group_by_budget(records)
    measured = [record for parts in rows.values() for some in parts.values() for record in some]
    return find_curves(measured, average_levels(read_stored_values(measured, store)))


def read_stored_values(records: Iterable[Record], store: Store) -> dict[str, Values]:
    """By key, the values of the images of stored records; none for a metric that is undefined as a whole."""
    files = (store.folder("record", record.key) / VALUES for record in records)
    return {key: found for file in files for key, found in read_values(file).items()}


def describe_troubles(outcome: Outcome) -> list[str]:
    """What was refused and what failed, one line for each reason."""
    return [*describe_refusals(outcome.cells), *describe_failures(outcome)]


def describe_refusals(cells: Iterable[Cell]) -> list[str]:
    """What is refused, which is known before anything is computed, one line for each reason."""
    distinct = {cell.key: cell for cell in cells}.values()
    return group_reasons((f"refused: {cell}", cell.refusal) for cell in distinct if cell.refusal)


def describe_failures(outcome: Outcome) -> list[str]:
    """What failed, one line for each reason."""
    by_key = {cell.key: cell for cell in outcome.cells}
    return group_reasons((f"failed: {by_key[key]}", explain_failure(why)) for key, why in outcome.failures.items())


def group_reasons(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """Lines `WHAT and 2 more: WHY`, one for each reason, from pairs (what, why)."""
    by_reason: dict[str, list[str]] = {}
    for what, why in reasons:
        by_reason.setdefault(why, []).append(what)
    return [
        f"{first}{f' and {len(others)} more' if others else ''}: {why}" for why, (first, *others) in by_reason.items()
    ]
