"""What a run would do, judged from the store alone."""

from __future__ import annotations

import contextlib
import shutil
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

from bench.components import freeze_files
from bench.engine.cells import Cell
from bench.engine.evidence import VOCABULARY
from bench.engine.graph import COST
from bench.engine.report import describe_refusals
from bench.engine.store import SPEC, Store
from bench.engine.tasks import CHECK, RECORD, list_tasks
from bench.files import parse_json
from bench.keys import Spec
from bench.zoo import MADE, Network

ALIKE = ("model", "schedule", "samples")  # what a cost follows from most: values that differ there tell nothing
Kind = tuple[str, ...]


@dataclass
class Plan:
    """Counts of cells, those that are refused, and the stored values still to be made, by name.

    `seconds` and `size` estimate what these take, from stored values of the same names, models, schedules and numbers
    of images; `unknown` lists names of which the store has none like that. `load` lists networks that are taken from
    the zoo.
    """

    done: int = 0
    todo: int = 0
    refused: list[Cell] = field(default_factory=list)
    make: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    size: float = 0.0
    unknown: list[str] = field(default_factory=list)
    load: list[Network] = field(default_factory=list)


@freeze_files()
def make_plan(cells: list[Cell], store: Store, networks: Iterable[Network] = ()) -> Plan:
    """Look up every cell and every stored value that it needs, but for networks of the zoo. Computes and writes
    nothing."""
    plan = Plan(load=[network for network in networks if not store.has(MADE, network.key)])
    loaded = {(MADE, network.key) for network in plan.load}
    todo = []
    for cell in {cell.key: cell for cell in cells}.values():
        if cell.refusal:
            plan.refused.append(cell)
        elif store.has("record", cell.key):
            plan.done += 1
        else:
            plan.todo += 1
            todo.append(cell)
    missing = [t for t in list_tasks(todo, store) if t.name not in (CHECK, RECORD) and (t.name, t.key) not in loaded]
    costs = {name: _list_costs(store, name) for name in {task.name: None for task in missing}}
    for name, case in ((task.name, task.cell.case) for task in missing):
        plan.make[name] = plan.make.get(name, 0) + 1
        kind = _kind(VOCABULARY.spec(name, (name,), case))
        if kind in costs[name]:
            seconds, size = costs[name][kind]
            plan.seconds, plan.size = plan.seconds + seconds, plan.size + size
        elif name not in plan.unknown:
            plan.unknown.append(name)
    return plan


def _kind(spec: Spec) -> Kind:
    return tuple(spec.choices.get(axis, "") for axis in ALIKE)


def _list_costs(store: Store, name: str) -> dict[Kind, tuple[float, float]]:
    """Medians of the seconds and the bytes of the stored values of a name, by kind."""
    costs: dict[Kind, list[tuple[float, int]]] = {}
    for folder in store.list_folders(name):
        files = store.look(name, folder.name, (COST, SPEC)) or {}
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # a damaged value tells nothing
            seconds = sum(phase["seconds"] for phase in parse_json(files[COST]))
            size = sum(file.stat().st_size for file in folder.iterdir())
            costs.setdefault(_kind(Spec.parse(files[SPEC].decode())), []).append((seconds, size))
    return {kind: tuple(map(statistics.median, zip(*found, strict=True))) for kind, found in costs.items()}


def describe_plan(plan: Plan, store: Store) -> str:
    """A plan in words."""
    lines = [f"{plan.done} cells done, {plan.todo} to do, {len(plan.refused)} refused"]
    lines += describe_refusals(plan.refused)
    if plan.load:
        size = sum(network.bytes for network in plan.load) / 1e6
        lines.append(f"from the zoo: {', '.join(network.name for network in plan.load)} ({size:.1f} MB)")
    if plan.make:
        lines.append("to compute: " + ", ".join(f"{count} x {name}" for name, count in plan.make.items()))
    if plan.seconds or plan.size:
        rest = "" if not plan.unknown else " without the unknown ones"
        free = shutil.disk_usage(
            next(place for place in (store.root, *store.root.absolute().parents) if place.exists())
        )
        lines.append(
            f"about {describe_duration(plan.seconds)} on one device, and {describe_size(plan.size)} of disk, of which "
            f"{describe_size(free.free)} are free{rest}, estimated from the store"
        )
    if plan.unknown:
        lines.append("unknown, since the store has none yet: " + ", ".join(plan.unknown))
    return "\n".join(lines)


def describe_duration(seconds: float) -> str:
    """Seconds below two minutes, minutes below two hours, and hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def describe_size(size: float) -> str:
    """Megabytes below one gigabyte, and gigabytes."""
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"
