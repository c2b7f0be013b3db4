"""The results of on_gpu.sh: a report of what the stages have written so far, and files small enough to carry away.

python benchmarks/gpu_results.py WORK OUT

OUT receives at most eight files of 15 MB, below 60 MB together: report.md; logs.tar.gz with all lines and logs; and
store-1.tar to store-6.tar. Unpacked over a store, these give its records, its weights and its checkpoints.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

PARTS, PART, TOTAL = 6, 15 * 10**6, 56 * 10**6
KEPT = ("record", "trained", "prepared", "partial")  # of a store; attributions and attacked images are made again
ROW = ("schedule", "defense", "seed", "explainer", "attack", "ball")
# Joo et al., AAAI 2023, Table 2: time and memory of a step over those of ce.
PAPER = {
    ("lenet", "hessian"): (4.25, 4.36), ("lenet", "atex"): (2.25, 2.81),
    ("lenet", "iga"): (31.0, 6.55), ("lenet", "l2_cosd"): (2.75, 2.64),
    ("resnet18_cifar", "hessian"): (8.95, 6.62), ("resnet18_cifar", "atex"): (2.22, 3.16),
    ("resnet18_cifar", "iga"): (26.45, 6.74), ("resnet18_cifar", "l2_cosd"): (4.10, 2.65),
}  # fmt: skip


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; a process that was killed may have left half of one."""
    found = []
    for line in read(path).splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def section(title: str, headers: list[str], rows: Iterable[Sequence[Any]]) -> str:
    """A heading and a table; nothing without rows."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return f"## {title}\n\n{tabulate(cells, headers, 'github', disable_numparse=True)}\n" if cells else ""


def lacks_library(problem: str) -> bool:
    return "is not installed" in problem


def report_smoke(lines: list[dict[str, Any]]) -> Iterator[str]:
    kinds: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        what = "runs" if line["contract"] == "run" else "contracts"
        kinds.setdefault((line["kind"], what), []).append(line["problem"])
    counts = []
    for key, problems in kinds.items():
        absent = sum(map(lacks_library, problems))
        counts.append([*key, len(problems) - absent, sum(map(bool, problems)) - absent, absent])
    headers = ["kind", "", "done", "failed", "lack a library"]
    yield section("Contracts, and a run of each component", headers, counts)
    failed = [
        (f"{line['kind']} {line['name']}", line["contract"], line["problem"][:200])
        for line in lines
        if line["problem"] and not lacks_library(line["problem"])
    ]
    yield section("What failed", ["component", "contract", "problem"], failed)


def over(cost: dict[str, Any], base: dict[str, Any], name: str) -> str:
    return f"{cost[name] / base[name]:.2f}" if cost.get(name) and base.get(name) else ""


def report_costs(lines: list[dict[str, Any]]) -> Iterator[str]:
    trainings = [line for line in lines if line["table"] == "training"]
    base = {line["of"]: line for line in trainings if line["piece"] == "ce"}
    rows = []
    for line in trainings:
        time, memory = PAPER.get((line["of"], line["piece"]), ("", ""))
        ce, ms = base.get(line["of"], {}), line.get("ms", line.get("problem", "")[:100])
        costs = [ms, over(line, ce, "ms"), time, line.get("peak_mib") or "", over(line, ce, "peak_mib"), memory]
        rows.append([line["of"], line["piece"], *costs])
    headers = ["model", "defense", "ms", "over ce", "paper", "peak MiB", "over ce", "paper"]
    yield section("A training step", headers, rows)
    yield "".join(f"- {line['of']}, {line['piece']}: {text}\n" for line in trainings for text in line.get("told", []))
    for title, name, base_name in (
        ("A step of an attack", "attacking", "forward"),
        ("A metric", "measuring", "their loop on the CPU"),
    ):
        rows = [[line["of"], line["piece"], line["ms"], line["ratio"]] for line in lines if line["table"] == name]
        yield section(title, ["of", "piece", "ms", f"over {base_name}"], rows)


def find_progress(store: Path, key: str) -> tuple[str, str, str]:
    """What a training has done: state, epochs, and seconds, of its last phase where it is unfinished."""
    done = store / "trained" / key / "cost.json"
    if done.exists():
        phases = json.loads(done.read_text())
        return "trained", "", f"{sum(phase['seconds'] for phase in phases):.0f}"
    for file in sorted((store / "partial" / key).glob("*/progress.json"), key=lambda file: file.stat().st_mtime)[-1:]:
        progress = json.loads(file.read_text())
        return f"unfinished, in {file.parent.name}", str(progress["epoch"]), f"{progress['phase']['seconds']:.0f}"
    return "not begun", "", ""


def report_trainings(work: Path) -> Iterator[str]:
    jobs = json.loads(read(work / "trainings.json") or "{}")
    rows = [(job, *find_progress(work / "store", key), key) for job, key in jobs.items()]
    yield section("Trainings of cifar10-lenet", ["job", "state", "epochs", "seconds", "key"], rows)
    yield "".join(f"- {line}\n" for line in read(work / "trainings.log").splitlines() if line.startswith("left out: "))
    for n, job in enumerate(jobs):
        told = [line for line in read(work / f"job-{n}.log").splitlines() if line[:7] == "bench: "]
        yield "".join(f"- {job}: {line[7:200]}\n" for line in dict.fromkeys(told[-3:]))
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for file in sorted((work / "store" / "record").glob("*/record.json")):
        record = json.loads(file.read_text())
        row = tuple(record["axes"].get(axis, "") for axis in ROW)
        value = record["value"]
        cells.setdefault(row, {})[record["metric"]] = "" if value is None else f"{value:.3f}"
    metrics = sorted({metric for values in cells.values() for metric in values})
    rows = [(*row, *(values.get(metric, "") for metric in metrics)) for row, values in sorted(cells.items())]
    yield section("Records", [*ROW, *metrics], rows)


def write_report(work: Path, out: Path) -> None:
    parts = [
        f"# {read(work / 'machine.txt').strip() or 'Results'}\n",
        *report_smoke(read_lines(work / "smoke.jsonl")),
        *report_costs(read_lines(work / "costs.jsonl")),
        *report_trainings(work),
    ]
    replace(out / "report.md", lambda path: path.write_text("\n".join(part for part in parts if part)))


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, and move it there whole."""
    staging = path.with_name(f".{path.name}")
    write(staging)
    os.replace(staging, path)


def share_out(sizes: dict[str, int]) -> tuple[list[list[str]], list[str]]:
    """Files by tar, each into the first that has room for it, and the files that do not fit."""
    parts: list[list[str]] = [[] for _ in range(PARTS)]
    room, total, left = [PART] * PARTS, TOTAL, []
    for name, size in sizes.items():
        size = -(-size // 512) * 512 + 1536  # blocks and headers of a tar
        place = next((i for i in range(PARTS) if size <= room[i] and size <= total), None)
        if place is None:
            left.append(name)
            continue
        parts[place].append(name)
        room[place] -= size
        total -= size
    return parts, left


def pack(work: Path, out: Path) -> None:
    """Write the report and the tars, the most wanted values first; what does not fit is listed in the logs."""
    store = work / "store"
    files = [
        file for kind in KEPT for file in sorted((store / kind).rglob("*")) if file.is_file() and file.name != "lock"
    ]
    parts, left = share_out({str(file.relative_to(store)): file.stat().st_size for file in files})
    (work / "left-out.txt").write_text("".join(f"{name}\n" for name in left))

    def write_part(names: list[str], path: Path) -> None:
        with tarfile.open(path, "w") as tar:
            for name in names:
                tar.add(store / name, name)

    for number, names in enumerate(parts, 1):
        if names:
            replace(out / f"store-{number}.tar", lambda path, names=names: write_part(names, path))

    def write_logs(path: Path) -> None:
        with tarfile.open(path, "w:gz") as tar:
            for file in sorted(work.iterdir()):
                if file.suffix in (".jsonl", ".json", ".log", ".txt"):
                    tar.add(file, file.name)

    replace(out / "logs.tar.gz", write_logs)
    write_report(work, out)


if __name__ == "__main__":
    pack(Path(sys.argv[1]), Path(sys.argv[2]))
