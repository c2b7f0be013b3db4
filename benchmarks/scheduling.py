"""How well a board's tasks fill many workers: the suite's own loop, on simulated workers with published costs.

Each value takes the seconds that the board's records give, or the median of its name. A record takes --record seconds,
and each task --overhead seconds of the one process that hands tasks out. Efficiency is the least time that any order
could take divided by the time taken. The last column says what bounds that time: the longest chain of needs, or work,
which is what cannot start before a moment, divided by the workers. Busy is the share of the workers' time in which they
compute: while few networks are trained, or where the chain is the limit, more workers only wait.

python benchmarks/scheduling.py leaderboards/shapes --seeds 20
python benchmarks/scheduling.py leaderboards/shapes --seeds 3 --axis attack topk uniform_noise no_attack
python benchmarks/scheduling.py --ray    # measures the overhead of a task on a local Ray
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.boards import Record, read_protocol
from bench.components import freeze_files
from bench.engine import Cell, Store, installed, list_cells, select
from bench.engine.tasks import CHECK, RECORD, Ended, Task, list_tasks, perform


class Simulated:
    """Workers that take as long as told, on a clock of their own. One process hands out tasks, one after another.

    It hands out `ahead` tasks for each worker, beside the one that runs; workers take them in the order of handing out.
    """

    def __init__(self, workers: int, seconds: dict[str, float], overhead: float, ahead: int) -> None:
        self.seconds, self.overhead = seconds, overhead
        self.room = (1 + ahead) * workers
        self.now = 0.0
        self.free = [0.0] * workers
        self.running: list[tuple[float, int, Task]] = []

    @property
    def is_wide(self) -> bool:
        return len(self.free) > 1

    def has_room(self) -> bool:
        return len(self.running) < self.room

    def start(self, task: Task) -> None:
        self.now += self.overhead
        end = max(self.now, self.free[0]) + self.seconds[task.key]
        heapq.heapreplace(self.free, end)
        heapq.heappush(self.running, (end, task.place, task))

    def wait(self, seconds: float | None) -> list[Ended]:
        end, _, task = heapq.heappop(self.running)
        self.now = max(self.now, end)
        return [(task, None)]


def read_costs(board: Path) -> dict[tuple[str, ...], float]:
    """The median seconds of published values, by name and the choices along axes that seconds depend on."""
    found: dict[tuple[str, ...], list[float]] = {}
    for file in sorted((board / "records").glob("*.jsonl")):
        for line in file.read_text().splitlines():
            record = Record.parse(line)
            for name, seconds in record.cost.items():
                for axes in (*list_axes(name), ()):
                    found.setdefault((name, *(record.axes.get(axis, "") for axis in axes)), []).append(seconds)
    return {kind: statistics.median(seconds) for kind, seconds in found.items()}


def list_axes(name: str) -> tuple[tuple[str, ...], ...]:
    """What the seconds of a value depend on, all of it first, then what matters most."""
    if name == "trained":
        return (("model", "defense"),)
    return (("defense", "explainer", "attack"), ("explainer", "attack"), ("attack",))


def tell_seconds(tasks: list[Task], board: Path, record: float) -> dict[str, float]:
    """Seconds of each task, by key."""
    costs = read_costs(board)

    def tell(task: Task) -> float:
        if task.name in (RECORD, CHECK):
            return record
        case = task.cell.case
        kinds = ((task.name, *(str(getattr(case, axis)) for axis in axes)) for axes in (*list_axes(task.name), ()))
        return next((costs[kind] for kind in kinds if kind in costs), record)

    return {task.key: tell(task) for task in tasks}


def find_starts(tasks: list[Task], seconds: dict[str, float]) -> dict[str, float]:
    """When each task starts at the soonest, with a worker for everyone."""
    starts: dict[str, float] = {}
    for task in tasks:
        starts[task.key] = max((starts[key] + seconds[key] for key in task.needs), default=0.0)
    return starts


def find_least(starts: dict[str, float], seconds: dict[str, float], workers: int) -> float:
    """Seconds that no order can beat: what cannot start before a moment is left for the workers after it."""
    left, least = 0.0, max(starts[key] + seconds[key] for key in starts)
    for key in sorted(starts, key=starts.__getitem__, reverse=True):
        left += seconds[key]
        least = max(least, starts[key] + left / workers)
    return least


def read_cells(board: Path, seeds: int, axes: list[list[str]]) -> list[Cell]:
    """The cells of a board that are not refused, with other choices along some axes: lists of a name and choices."""
    catalog = installed()
    chosen: dict[str, Any] = {"seed": [str(seed) for seed in range(seeds)]} if seeds else {}
    chosen |= {axis: texts for axis, *texts in axes}
    selection = select(catalog, chosen, protocol=read_protocol(board))
    cells = list_cells(catalog, selection.cases, selection.metrics)
    return list({cell.key: cell for cell in cells if not cell.refusal}.values())


def measure_ray(count: int = 500) -> tuple[float, float]:
    """Seconds to hand a task to a local Ray, and seconds until it is back, per task."""
    import ray

    ray.init(include_dashboard=False, logging_level="ERROR")
    remote = ray.remote(max_retries=2)(lambda order, task: ("done",))
    ray.get([remote.remote(bytes(500), bytes(5000)) for _ in range(20)])
    start = time.perf_counter()
    references = [remote.remote(bytes(500), bytes(5000)) for _ in range(count)]
    handed = time.perf_counter() - start
    while references:
        done, references = ray.wait(references, num_returns=1)
        ray.get(done[0])
    return handed / count, (time.perf_counter() - start) / count


@freeze_files()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("board", nargs="?", type=Path)
    parser.add_argument("--seeds", type=int, default=0, help="of the board, unless given")
    parser.add_argument("--axis", nargs="+", action="append", default=[], metavar=("AXIS", "TEXT"))
    parser.add_argument("--workers", nargs="+", type=int, default=[2**power for power in range(10)])
    parser.add_argument("--record", type=float, default=0.5)
    parser.add_argument("--overhead", type=float, default=0.005)
    parser.add_argument("--ahead", type=int, default=0, help="tasks that wait for each worker")
    parser.add_argument("--ray", action="store_true")
    given = parser.parse_args()
    if min(given.workers) < 1:
        parser.error(f"--workers: {min(given.workers)} is no number of workers; give 1 or more")
    if given.ahead < 0:
        parser.error(f"--ahead: {given.ahead} is no number of tasks; give 0 or more")
    if given.ray:
        print("{:.2f} ms to hand out a task, {:.2f} ms until it is back".format(*(1e3 * s for s in measure_ray())))
        return
    cells = read_cells(given.board, given.seeds, given.axis)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), print)
        tasks = list_tasks(cells, store)
        seconds = tell_seconds(tasks, given.board, given.record)
        starts = find_starts(tasks, seconds)
        work, longest = sum(seconds.values()), find_least(starts, seconds, len(tasks))
        print(f"{len(cells)} records, {len(tasks)} tasks, {work / 3600:.1f} h of work")
        print(f"{longest / 3600:.2f} h: the longest chain of needs")
        print("workers  hours   least  efficiency   busy  seconds to hand out  limit")
        for workers in given.workers:
            executor = Simulated(workers, seconds, given.overhead, given.ahead)
            start = time.perf_counter()
            fresh = [dataclasses.replace(task, needs=set(task.needs)) for task in tasks]
            for _ in perform(fresh, executor, store):
                pass
            spent = time.perf_counter() - start
            least = find_least(starts, seconds, workers)
            hours, best, busy = executor.now / 3600, least / 3600, work / executor.now / workers
            limit = "chain" if least == longest else "work"
            print(f"{workers:7d} {hours:6.2f} {best:7.2f} {best / hours:11.3f} {busy:6.3f} {spent:20.2f}  {limit}")


if __name__ == "__main__":
    main()
