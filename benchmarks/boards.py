"""What a board of many submissions costs: seconds to build and to validate it, and the sizes of its page.

Each submission has the records of one of the board's defenses under another parameter, with other values for its
images, and so as many rows as that defense. The suite's own rows come on top. Seconds are those of the processor.

python benchmarks/boards.py 200 1000 5000
python benchmarks/boards.py 200 --board leaderboards/shapes --defense l2_cosd --keep many
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from tabulate import tabulate

from bench.boards.board import read_board
from bench.boards.record import Record
from bench.boards.statistics import summarise
from bench.boards.submissions.attachments import Values, read_values
from bench.keys import hash_spec

META = """\
title = "Rival {name}"
authors = ["A. Author"]
year = 2026
paper = ""
code = ""
licence = "CC0-1.0"
hardware = "a CPU"
selection = "nothing was selected"
selected_on = "none"
owner = "ada"
"""


def change(record: Record, values: Values, parameter: str, place: int, level: float) -> tuple[Record, Values]:
    """A record of a rival and its values: scores under an attack lie about `level` higher, the others stay."""
    name, old = parameter.split("=")
    new = f"{round(float(old) + (place + 1) / 10_000, 4)}"
    axes = {**record.axes, "defense": f"{record.axes['defense']}:{name}={new}"}
    spec = record.spec.replace(parameter, f"{name}={new}")
    low, high = record.range
    if record.grain and "attack" in axes and axes["attack"] != "no_attack":
        draw = np.random.default_rng([place, int(record.key, 16)])
        moved = values.values + record.grain * np.rint(draw.normal(level, 2.0, values.values.shape))
        values = dataclasses.replace(values, values=np.clip(moved, low, high))
    summary = summarise(values.values, values.names, values.kept, record.range)
    command = record.command.replace(record.axes["defense"], axes["defense"])
    return dataclasses.replace(
        record, axes=axes, spec=spec, key=hash_spec(spec), command=command, **dataclasses.asdict(summary)
    ), values


def write_rival(folder: Path, records: list[tuple[Record, Values]], parameter: str, place: int) -> None:
    level = random.Random(place).gauss(0.0, 2.0)
    found = sorted((change(*each, parameter, place, level) for each in records), key=lambda each: each[0].key)
    lengths = [values.values.size for _, values in found]
    kept = [
        each
        for _, values in found
        for each in ([None] * values.values.size if values.kept is None else np.repeat(values.kept, len(values.names)))
    ]
    flat = np.concatenate([values.values.reshape(-1) for _, values in found])
    table = pyarrow.table(
        {
            "key": [record.key for (record, _), count in zip(found, lengths, strict=True) for _ in range(count)],
            "image": np.concatenate([np.repeat(values.images, len(values.names)) for _, values in found]),
            "level": [name for _, values in found for _ in values.images for name in values.names],
            "value": pyarrow.array(flat, mask=np.isnan(flat)),
            "kept": pyarrow.array(kept, pyarrow.bool_()),
        }
    )
    name = f"rival-{place:05d}"
    pyarrow.parquet.write_table(table, folder / f"{name}.values.parquet")
    (folder / f"{name}.jsonl").write_text("".join(record.line() + "\n" for record, _ in found))
    (folder / f"{name}.toml").write_text(META.format(name=place))


def copy_board(board: Path, place: Path, defense: str, parameter: str, rows: int) -> None:
    """Write a board with submissions of at least some rows."""
    shutil.copytree(board, place)
    values = read_values(place / "records" / "suite.values.parquet")
    lines = (place / "records" / "suite.jsonl").read_text().splitlines()
    mine = [record for record in map(Record.parse, lines) if record.axes.get("defense") == defense]
    of_defense = sum(row.axes.get("defense") == defense for row in read_board(board).rows)
    for number in range(-(-rows // of_defense)):
        write_rival(place / "records", [(record, values[record.key]) for record in mine], parameter, number)


def measure(board: Path, sizes: list[int], keep: Path | None, defense: str, parameter: str) -> Iterator[list[str]]:
    for rows in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            place = (keep or Path(scratch)) / f"{board.name}-{rows}"
            if not place.exists():
                copy_board(board, place, defense, parameter, rows)
            line = [str(rows), str(len(list(place.glob("records/rival-*.jsonl"))))]
            for command in ("build", "validate"):
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                done = subprocess.run([sys.executable, "-m", "bench.cli", "leaderboard", command, str(place)])
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                line.append(f"{seconds:.1f}" + (" (failed)" if done.returncode else ""))
            page = [file for file in place.rglob("*") if file.suffix in (".html", ".js")]
            line.append(f"{(place / 'index.html').stat().st_size / 1e6:.2f}")
            line.append(f"{sum(file.stat().st_size for file in page) / 1e6:.2f}")
            yield line


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="+", help="submitted rows")
    parser.add_argument("--board", type=Path, default=Path("leaderboards/shapes-quick"))
    parser.add_argument("--defense", default="l2_cosd")
    parser.add_argument("--parameter", default="cosine=1.0", help="which the rivals change, as it stands in specs")
    parser.add_argument("--keep", type=Path, help="a folder to leave the boards in")
    given = parser.parse_args()
    heads = ["rows", "submissions", "build, s", "validate, s", "first screen, MB", "page and its data, MB"]
    found = list(measure(given.board, given.rows, given.keep, given.defense, given.parameter))
    print(tabulate(found, headers=heads, tablefmt="github", disable_numparse=True))
