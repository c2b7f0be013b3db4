"""Records to tables: the plain one of a run, and a board's README.md and table.csv. Uses neither torch nor plugins."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from tabulate import tabulate

from bench.entries import Difference, Entry, area, difference, entry
from bench.errors import BadValue, EnvironmentProblem
from bench.protocol import Protocol, board_protocol
from bench.record import Record
from bench.trust import Images, doubted

ALWAYS = ("defense", "attack")
ROW = ("dataset", "split", "model", "schedule", "defense", "explainer", "surrogate", "target", "samples")
RECORDS, PAGE, TABLE = "records", "README.md", "table.csv"
AREA, NORMALISED = "AUC", "AUC normalised"
COSTS = ("s", "MiB", "passes")  # units of what is shown as a ratio to the reference row, on one device only


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
    unique = {record.key: record for _, found in rows for record in found.values()}.values()
    notes = ["In brackets: 95% bootstrap interval over images. -: not computed.", *_notes(unique)]
    return "\n".join([escaped(common), "", table, "", *map(escaped, notes)])


def _notes(records: Collection[Record]) -> list[str]:
    """What has to be said of some records, a line for each thing, and where they were computed."""
    said: dict[str, list[str]] = {}
    for record in records:
        words = [f"* {flag}" for flag in record.flags]
        if record.undefined:
            words.append(f"* undefined for {record.undefined} of {record.n} images, which the mean leaves out")
        if record.undefined_because:
            words.append(record.undefined_because)
        about = " ".join(record.axes[axis] for axis in ("defense", "explainer", "attack") if axis in record.axes)
        for text in words:
            said.setdefault(text, []).append(f"{record.metric} of {about}")
    notes = [
        f"{text}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for text, names in said.items()
    ]
    notes += sorted({f"{r.axes['dataset']}: {r.provenance['data']}" for r in records if "data" in r.provenance})
    return [*notes, *(f"Computed on {'; '.join(found)}." for found in [devices(records)] if found)]


def devices(records: Iterable[Record]) -> list[str]:
    return sorted({str(record.provenance.get("device", "")) for record in records} - {""})


@dataclass(frozen=True)
class Column:
    """A metric, under an attack and a budget where it reaches them."""

    metric: str
    attack: str
    ball: str


@dataclass(frozen=True)
class Board:
    """A board's protocol, its records by row and column, and the seeds."""

    name: str
    protocol: Protocol
    rows: list[dict[str, str]]
    columns: list[Column]
    entries: list[dict[Column, Entry]]

    @functools.cached_property
    def seeds(self) -> frozenset[str]:
        found = (e.records for mine in self.entries for e in mine.values())
        return frozenset(r.axes["seed"] for records in found for r in records if "seed" in r.axes)


def read_records(folder: Path) -> tuple[list[Record], Images]:
    """The records of a board's submissions, each key once, and by key what there is of each image."""
    import pyarrow.parquet

    records: dict[str, Record] = {}
    images: dict[str, list[tuple[float | None, bool | None]]] = {}
    # The suite's own first: of two records of one key, the first counts.
    for file in sorted((folder / RECORDS).glob("*.jsonl"), key=lambda f: (f.stem != "suite", f.name)):
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            try:
                record = Record.parse(line)
            except (ValueError, TypeError, KeyError, AttributeError):
                raise BadValue(f"{file}, line {number}: no record of this version; publish it again") from None
            records.setdefault(record.key, record)
        beside = file.with_suffix(".values.parquet")
        try:
            columns = pyarrow.parquet.read_table(beside, columns=["key", "image", "value", "kept"]).to_pydict()
            images.update({key: each for key, each in _by_image(columns).items() if key not in images})
        except (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException) as error:
            raise EnvironmentProblem(
                f"{beside} cannot be read ({' '.join(str(error).split())[:120]}); publish {file.stem} again"
            ) from None
    return list(records.values()), images


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
    records, images = read_records(folder)
    _check_one_version(folder, records)
    records = doubted(records, images)
    values = {key: [value for value, _ in each] for key, each in images.items()}
    parts = {tuple((axis, r.axes[axis]) for axis in ROW if axis in r.axes) for r in records}
    # Accuracy knows no explainer: its records belong to every row that agrees with what they do name.
    rows = [dict(part) for part in parts if not any(set(part) < set(other) for other in parts)]
    rows.sort(key=lambda row: _place(protocol, row))
    columns = sorted(
        {Column(r.metric, r.axes.get("attack", ""), r.axes.get("ball", "")) for r in records},
        key=lambda column: _order(protocol, column),
    )
    entries = []
    for row in rows:
        mine: dict[Column, list[Record]] = {}
        for record in records:
            if all(row.get(axis) == record.axes[axis] for axis in ROW if axis in record.axes):
                column = Column(record.metric, record.axes.get("attack", ""), record.axes.get("ball", ""))
                mine.setdefault(column, []).append(record)
        entries.append({column: entry(found, values) for column, found in mine.items()})
    for column, parts in areas(columns).items():
        columns.append(column)
        for found in entries:
            # Of one and the same seeds: the values of some budgets over other trainings make no curve.
            if all(part in found and set(found[part].images) == set(found[parts[0]].images) for part in parts):
                found[column] = area([found[part] for part in parts], column.ball.endswith(NORMALISED))
    columns.sort(key=lambda column: _order(protocol, column))
    return Board(folder.resolve().name, protocol, rows, columns, entries)


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


def reference_of(board: Board, row: Mapping[str, str]) -> dict[Column, Entry] | None:
    """The entries of the reference row that differs from a row in nothing else; of such a row its own."""
    wanted = {**row, **{axis: text for axis, text in board.protocol.reference.items() if axis in row}}
    return next((e for r, e in zip(board.rows, board.entries, strict=True) if r == wanted), None)


def _check_one_version(folder: Path, records: Iterable[Record]) -> None:
    """Raise BadValue where two records are of one metric and case and of two keys: a mean over both says nothing."""
    keys: dict[tuple[str, str], str] = {}
    for record in records:
        about = record.metric, str(sorted(record.axes.items()))
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
        _index(protocol.axes["attack"], column.attack),
        _index(protocol.axes["norm"], norm),
        _index(protocol.axes["eps"], eps),
    )


def _index(choices: Sequence, text: str) -> tuple[int, str]:
    texts = [str(choice) for choice in choices]
    return (texts.index(text) if text in texts else len(texts), text)


def built(board: Board) -> dict[str, str]:
    """The generated files of a board by name, the same on every machine."""
    return {PAGE: _page(board), TABLE: _table(board)}


def _page(board: Board) -> str:
    texts = {axis: {row.get(axis, "") for row in board.rows} for axis in ROW}
    named = [axis for axis in ("defense", "explainer") if texts[axis] != {""}]
    varying = [axis for axis in ROW if axis in named or len(texts[axis]) > 1]
    if all(row.get("surrogate") == row.get("explainer") for row in board.rows):
        varying = [axis for axis in varying if axis != "surrogate"]
    records = [record for mine in board.entries for found in mine.values() for record in found.records]
    unique = list({record.key: record for record in records}.values())
    attacks = {c.attack for c in board.columns} - {""}
    balls = {c.ball for c in board.columns} - {""}
    over = [ball for ball in balls if ball.endswith(AREA)]
    shared = {"attack": attacks, "ball": balls, **texts}
    common = [
        f"{axis} `{code(*one)}`"
        for axis, one in shared.items()
        if len(one) == 1 and axis not in varying and one != {""}
    ]
    headers = [*varying, *(_header(c, len(attacks) > 1, len(balls) > 1) for c in board.columns)]
    body = [
        [*(markdown(row.get(axis, "-")) for axis in varying), *(_cell(board, row, mine, c) for c in board.columns)]
        for row, mine in zip(board.rows, board.entries, strict=True)
    ]
    seeds = sorted({record.axes["seed"] for record in unique if "seed" in record.axes}, key=_number)
    over_what = (
        "interval over seeds and images"
        if len(seeds) > 1
        else "bootstrap interval over images; one seed, which says nothing of another training"
    )
    helps = {c.metric: r for c in board.columns for r in unique if r.metric == c.metric}
    lines = [
        f"# {markdown(board.protocol.title or board.name)}",
        markdown(board.protocol.about),
        tabulate(body, headers=headers, tablefmt="github", disable_numparse=True) if body else "No records yet.",
        "\n".join(
            [
                f"- In brackets: 95% {over_what}. Seeds: {markdown(', '.join(seeds)) or 'none'}.",
                *(
                    [
                        f"- {AREA}: area under the values of all eps, by trapezoids of unit width; {NORMALISED}: over "
                        "their number, between the values."
                    ]
                    if over
                    else []
                ),
                "- -: not computed. Costs are ratios to the reference row, where both were measured on one device.",
                *(f"- {markdown(note)}" for note in _notes(unique)),
            ]
        ),
        _differences(board, varying, attacks, balls),
        "## Columns",
        "\n".join(
            f"- **{markdown(metric)}** ({markdown(record.better)} is better): {markdown(record.help)}"
            for metric, record in helps.items()
        ),
        "## Protocol",
        f"The same for all rows: {', '.join(common)}." if common else "",
        f"```sh\nbench run --board leaderboards/{board.name}                  # everything; goes on where it stopped\n"
        f"bench run --board leaderboards/{board.name} --defense MINE   # a row of your own, beside the reference\n"
        f"bench leaderboard verify leaderboards/{board.name}           # run it again and compare\n```",
        _allowance(board.protocol),
        f"Generated from `{RECORDS}/` by `bench leaderboard build`; every record holds the command that gives it.",
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def _differences(board: Board, varying: Sequence[str], attacks: Collection[str], balls: Collection[str]) -> str:
    """The rows beside the reference row, image by image."""
    columns = [c for c in board.columns if all(e[c].records[0].unit not in COSTS for e in board.entries if c in e)]
    body = []
    for row, mine in zip(board.rows, board.entries, strict=True):
        base = reference_of(board, row)
        if base is None or base is mine:
            continue
        found = [difference(mine[c], base[c]) if c in mine and c in base else None for c in columns]
        body.append([*(markdown(row.get(axis, "-")) for axis in varying), *map(_difference, found)])
    if not body:
        return ""
    headers = [*varying, *(_header(c, len(attacks) > 1, len(balls) > 1) for c in columns)]
    return "\n\n".join(
        [
            "## Beside the reference row",
            tabulate(body, headers=headers, tablefmt="github", disable_numparse=True),
            "Mean of the differences to the reference row, image by image, where both have a value; in brackets its "
            "95% interval. ▲: better, ▼: worse, where the interval does not hold zero.",
        ]
    )


def _difference(found: Difference | None) -> str:
    if found is None:
        return "-"
    around = " [{:+.2f}, {:+.2f}]".format(*found.ci95) if found.ci95 else ""
    return f"{found.value:+.3f}{around}" + {True: " ▲", False: " ▼", None: ""}[found.better]


def _allowance(protocol: Protocol) -> str:
    if not protocol.tolerance:
        return ""
    allowed = ", ".join(f"`{code(metric)}` by {value:g}" for metric, value in protocol.tolerance.items())
    return f"A run again may be off in {allowed}, in other metrics by nothing; costs are not compared."


def _number(text: str) -> tuple[int, str]:
    return (int(text) if text.isdigit() else 0, text)


def _header(column: Column, attacks: bool, balls: bool) -> str:
    parts = [column.metric, column.attack if attacks else "", column.ball if balls else ""]
    return "<br>".join(markdown(part) for part in parts if part)


def _cell(board: Board, row: Mapping[str, str], mine: Mapping[Column, Entry], column: Column) -> str:
    found = mine.get(column)
    if found is None:
        return "-"
    if found.value is None:
        return "undefined"
    if found.records[0].unit in COSTS:
        return _ratio(board, row, found, column)
    text = f"{found.value:.3f}" + (f" {markdown(found.records[0].unit)}" if found.records[0].unit else "")
    if found.ci95:
        text += " [{:.2f}, {:.2f}]".format(*found.ci95)
    seeds = {r.axes["seed"] for r in found.records if "seed" in r.axes}
    if seeds and seeds != board.seeds:
        text += f" ({len(seeds)} of {len(board.seeds)} seeds)"
    return text + (" \\*" if found.starred else "")


def _ratio(board: Board, row: Mapping[str, str], found: Entry, column: Column) -> str:
    """A time beside that of the reference row."""
    base = (reference_of(board, row) or {}).get(column)
    if base is None or not base.value or devices(base.records) != devices(found.records):
        return "-"
    assert found.value is not None
    return f"{found.value / base.value:.2f} x"


def _table(board: Board) -> str:
    """All entries in long form."""
    stream = io.StringIO()
    lines = csv.writer(stream, lineterminator="\n")
    beside = ("difference", "difference_low", "difference_high")
    numbers = ("value", "ci95_low", "ci95_high", "value_kept", *beside, "n", "kept", "undefined")
    lines.writerow([*ROW, "metric", "attack", "ball", "seeds", *numbers, "unit", "better", "device", "flags"])
    for row, mine in zip(board.rows, board.entries, strict=True):
        for column in (c for c in board.columns if c in mine):
            found = mine[column]
            low, high = found.ci95 or (None, None)
            base = (reference_of(board, row) or {}).get(column)
            other = difference(found, base) if base not in (None, found) else None
            other = None if found.records[0].unit in COSTS else other
            paired = (other.value, *(other.ci95 or (None, None))) if other else (None, None, None)
            # An area over those that each budget keeps, not the same ones, is none.
            over = column.ball.endswith((AREA, NORMALISED))
            kept = [None if over else r.value_kept for r in found.records]
            lines.writerow(
                [
                    *(harmless(row.get(axis, "")) for axis in ROW),
                    *(harmless(text) for text in dataclasses.astuple(column)),
                    harmless(" ".join(dict.fromkeys(r.axes.get("seed", "") for r in found.records)).strip()),
                    *(
                        "" if number is None else f"{number:.6g}"
                        for number in (
                            *(found.value, low, high),
                            None if None in kept else math.fsum(kept) / len(kept),
                            *paired,
                        )
                    ),
                    *(_sum(getattr(r, count) for r in found.records) for count in ("n", "kept", "undefined")),
                    harmless(found.records[0].unit),
                    harmless(found.records[0].better),
                    harmless("; ".join(devices(found.records))),
                    harmless("; ".join(sorted({flag for r in found.records for flag in r.flags}))),
                ]
            )
    return stream.getvalue()


def _sum(counts: Iterable[int | None]) -> str:
    known = [count for count in counts if count is not None]
    return str(sum(known)) if known else ""


def harmless(text: str) -> str:
    """A text that a spreadsheet does not run."""
    text = escaped(text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def markdown(text: str) -> str:
    """A text that stays what it is in Markdown, in a table too."""
    return re.sub(r"([\\`*|\[\]<>#])", r"\\\1", escaped(text))


def code(text: str) -> str:
    """A text for a Markdown code span."""
    return escaped(text).replace("`", "'")


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
