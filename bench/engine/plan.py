"""What a run would do, from the store alone."""

from __future__ import annotations

import contextlib
import json
import statistics
from dataclasses import dataclass, field

from bench.engine.evidence import VOCABULARY
from bench.engine.graph import COST, Graph, Memory
from bench.engine.runner import Cell
from bench.engine.store import Store


@dataclass
class Plan:
    """Counts of cells; stored values still to be made, by name; what they should take, going by others of the name in
    the store, in seconds and bytes; names of which the store knows none."""

    done: int = 0
    todo: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    make: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    size: float = 0.0
    unknown: list[str] = field(default_factory=list)


def planned(cells: list[Cell], store: Store) -> Plan:
    """Look up every cell and every stored value that it needs. Computes and writes nothing."""
    plan = Plan()
    missing: dict[tuple[str, str], None] = {}
    for cell in {cell.key: cell for cell in cells}.values():
        if cell.refused:
            plan.refused[str(cell)] = cell.refused
        elif store.has("record", cell.key):
            plan.done += 1
        else:
            plan.todo += 1
            graph = Graph(VOCABULARY, cell.case, store, None, Memory())
            for name in graph.stored((*cell.names, *(["kept"] if cell.attacked else []))):
                if not store.has(name, graph.key(name)):
                    missing[name, graph.key(name)] = None
    for name, _ in missing:
        plan.make[name] = plan.make.get(name, 0) + 1
    for name, count in plan.make.items():
        times, sizes = [], []
        for folder in store.entries(name):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # what is damaged tells nothing
                times.append(sum(phase["seconds"] for phase in json.loads((folder / COST).read_text())))
                sizes.append(sum(file.stat().st_size for file in folder.iterdir()))
        if not sizes:
            plan.unknown.append(name)
            continue
        plan.seconds += count * statistics.median(times)
        plan.size += count * statistics.median(sizes)
    return plan


def text(plan: Plan) -> str:
    """A plan in words."""
    lines = [f"{plan.done} cells done, {plan.todo} to do, {len(plan.refused)} refused"]
    cells: dict[str, list[str]] = {}
    for cell, reason in plan.refused.items():
        cells.setdefault(reason, []).append(cell)
    lines += [
        f"refused: {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}"
        for reason, names in cells.items()
    ]
    if plan.make:
        lines.append("to compute: " + ", ".join(f"{count} x {name}" for name, count in plan.make.items()))
    if plan.seconds or plan.size:
        known = "" if not plan.unknown else " without what is not known"
        lines.append(f"about {plan.seconds:.0f} s and {plan.size / 1e6:.1f} MB{known}, going by what the store holds")
    if plan.unknown:
        lines.append("not known yet, the store holds none: " + ", ".join(plan.unknown))
    return "\n".join(lines)
