"""Records to tables. Uses neither torch nor plugins."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from bench.record import Record

ALWAYS = ("defense", "attack")


def escaped(text: str) -> str:
    """A text that cannot break a table: one line, no control characters."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)


def shown(record: Record) -> str:
    """Value and interval, rounded."""
    if record.value is None:
        return "undefined"
    value = f"{record.value:.1f} {record.unit}" if record.unit else f"{record.value:.3f}"
    if record.ci95 is not None:
        value += " [{:.2f}, {:.2f}]".format(*record.ci95)
    return value + (" *" if record.flags or record.undefined else "")


def plain_table(rows: Sequence[tuple[Mapping[str, str], Mapping[str, Record]]], metrics: Sequence[str]) -> str:
    """A table of (axes, records by metric): what all rows share stands above it, what needs a word below."""
    axes = list(rows[0][0])
    varying = [a for a in axes if a in ALWAYS or len({row[a] for row, _ in rows}) > 1]
    common = ", ".join(f"{a} {rows[0][0][a]}" for a in axes if a not in varying)
    body = [
        [*(escaped(row[a]) for a in varying), *(shown(found[m]) if m in found else "-" for m in metrics)]
        for row, found in rows
    ]
    table = tabulate(body, headers=[*varying, *map(escaped, metrics)], tablefmt="simple", disable_numparse=True)
    return "\n".join([escaped(common), "", table, "", *_notes([r for _, found in rows for r in found.values()])])


def _notes(records: Sequence[Record]) -> list[str]:
    notes = ["In brackets: 95% bootstrap interval over images. -: not computed."]
    unique = {record.key: record for record in records}.values()
    for record in unique:
        about = f"{record.metric} of {record.axes.get('defense', '')} {record.axes.get('attack', '')}".strip()
        if record.undefined:
            notes.append(f"* {about}: undefined for {record.undefined} of {record.n} images, which the mean leaves out")
        if record.undefined_because:
            notes.append(f"{about}: {record.undefined_because}")
        notes += [f"* {about}: {flag}" for flag in record.flags]
    notes += sorted({f"{r.axes['dataset']}: {r.provenance['data']}" for r in unique if "data" in r.provenance})
    devices = sorted({str(r.provenance.get("device", "")) for r in unique} - {""})
    notes.append("Computed on " + "; ".join(devices) + ".")
    return [escaped(note) for note in notes]
