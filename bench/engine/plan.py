"""What a run would do, judged from the store alone."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

from bench.components import freeze_files
from bench.engine.cells import Cell
from bench.engine.graph import COST
from bench.engine.report import group_reasons
from bench.engine.store import Store
from bench.engine.tasks import CHECK, RECORD, list_tasks
from bench.files import parse_json
from bench.zoo import MADE, Network


@dataclass
class Plan:
    """Counts of cells, refusals by cell, and the stored values still to be made, by name.

    `seconds` and `size` estimate what these take, from stored values of the same names; `unknown` lists names of which
    the store has none. `load` lists networks that are taken from the zoo.
    """

    done: int = 0
    todo: int = 0
    refused: dict[str, str] = field(default_factory=dict)
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
            plan.refused[str(cell)] = cell.refusal
        elif store.has("record", cell.key):
            plan.done += 1
        else:
            plan.todo += 1
            todo.append(cell)
    for task in list_tasks(todo, store):
        if task.name not in (CHECK, RECORD) and (task.name, task.key) not in loaded:
            plan.make[task.name] = plan.make.get(task.name, 0) + 1
    for name, count in plan.make.items():
        times, sizes = [], []
        for folder in store.list_folders(name):
            files = store.look(name, folder.name, (COST,)) or {}
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # a damaged value tells nothing
                times.append(sum(phase["seconds"] for phase in parse_json(files[COST])))
                sizes.append(sum(file.stat().st_size for file in folder.iterdir()))
        if not sizes:
            plan.unknown.append(name)
            continue
        plan.seconds += count * statistics.median(times)
        plan.size += count * statistics.median(sizes)
    return plan


def describe_plan(plan: Plan) -> str:
    """A plan in words."""
    lines = [f"{plan.done} cells done, {plan.todo} to do, {len(plan.refused)} refused"]
    lines += group_reasons((f"refused: {cell}", reason) for cell, reason in plan.refused.items())
    if plan.load:
        size = sum(network.bytes for network in plan.load) / 1e6
        lines.append(f"from the zoo: {', '.join(network.name for network in plan.load)} ({size:.1f} MB)")
    if plan.make:
        lines.append("to compute: " + ", ".join(f"{count} x {name}" for name, count in plan.make.items()))
    if plan.seconds or plan.size:
        rest = "" if not plan.unknown else " without the unknown ones"
        lines.append(f"about {plan.seconds:.0f} s and {plan.size / 1e6:.1f} MB{rest}, estimated from the store")
    if plan.unknown:
        lines.append("unknown, since the store has none yet: " + ", ".join(plan.unknown))
    return "\n".join(lines)
