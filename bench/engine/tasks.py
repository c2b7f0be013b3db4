"""Tasks: the stored values and records that some cells still need, and the loop that has them computed."""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch

from bench.engine.bars import Count
from bench.engine.cells import Cell, list_needs
from bench.engine.evidence import VOCABULARY
from bench.engine.graph import Graph, Memory, dependencies
from bench.engine.locks import PAUSE, Busy
from bench.engine.store import Store

CHECK, RECORD = "test_data", "record"


@dataclass(eq=False)
class Task:
    """A value of a cell's case, or the cell's own record.

    `name` is that of the value, or "record". `needs` are keys of tasks that come first; `cells` are the keys of the
    records that wait for it.
    """

    name: str
    key: str
    cell: Cell
    place: int
    needs: set[str]
    cells: set[str] = field(default_factory=set)


Ended = tuple[Task, Exception | None]


class Executor(Protocol):
    """Computes tasks somewhere, and has their results in the store."""

    @property
    def is_wide(self) -> bool:
        """Whether it computes several tasks at once."""

    def has_room(self) -> bool:
        """Whether it takes another task."""

    def start(self, task: Task) -> None:
        """Take a task."""

    def wait(self, seconds: float | None) -> list[Ended]:
        """The tasks that have ended, with their errors; waits for one, but no longer than some seconds.

        The error is Busy where another process works on the value.
        """

    def find_count(self, task: Task) -> Count | None:
        """How far a task is that has been taken, where that is known."""


def list_tasks(cells: Iterable[Cell], store: Store) -> list[Task]:
    """What has to be computed for cells without records, in the order of the cells, and of the needs of each."""
    tasks: dict[str, Task] = {}
    finished: set[str] = set()
    graph: Graph | None = None
    for cell in cells:
        if graph is None or graph.case != cell.case:
            graph = Graph(VOCABULARY, cell.case, store, torch.device("cpu"), Memory())
        names = list_needs(cell.case, cell.names)
        stored = VOCABULARY.stored(names)
        keys = {name: graph.key(name) for name in stored}
        if CHECK in VOCABULARY.reach(names)[1]:  # first, so that a set that is too small is named before a training
            keys = {CHECK: graph.key(CHECK), **keys}
        for name, key in keys.items():
            if key not in tasks and key not in finished:
                if name != CHECK and store.has(name, key):
                    finished.add(key)
                    continue
                needs = {keys[n] for n in VOCABULARY.stored(dependencies(VOCABULARY.values[name].function))}
                tasks[key] = Task(name, key, cell, len(tasks), needs & tasks.keys())
        own = {key for key in keys.values() if key in tasks}
        for key in own:
            tasks[key].cells.add(cell.key)
        tasks[cell.key] = Task(RECORD, cell.key, cell, len(tasks), own, {cell.key})
    return list(tasks.values())


def perform(tasks: list[Task], executor: Executor, store: Store) -> Iterator[Ended]:
    """Have tasks computed; yield each record's as it ends, with its error. What needs a failed task fails with it.

    In one place, tasks come in their order. In several, what most records wait for comes first, so that no training is
    left for the end. A task that another process works on is left to it, and looked at again when all others are done.
    """

    def put(task: Task) -> None:
        heapq.heappush(ready, (-len(task.cells) if executor.is_wide else 0, task.place, task))

    waiting = {task.key: task for task in tasks}
    followers: dict[str, list[Task]] = {}
    for task in tasks:
        for key in task.needs:
            followers.setdefault(key, []).append(task)
    ready: list[tuple[int, int, Task]] = []
    for task in tasks:
        if not task.needs:
            put(task)
    running, busy, ended = 0, dict[str, list[Task]](), set[str]()
    tell = functools.cache(store.warn)  # a text once

    def end(task: Task, error: Exception | None) -> Iterator[Ended]:
        if waiting.pop(task.key, None) is None:
            return
        if task.name == RECORD:
            ended.add(task.key)
            yield task, error
        for follower in followers.pop(task.key, ()):
            follower.needs.discard(task.key)
            if error is not None:
                yield from end(follower, error)
            elif not follower.needs and follower.key in waiting:
                put(follower)

    while ready or running or busy:
        while ready and executor.has_room():
            _, _, task = heapq.heappop(ready)
            if task.key in waiting and not task.cells <= ended:  # else nobody needs it any more
                executor.start(task)
                running += 1
        if running:
            for task, error in executor.wait(PAUSE if busy else None):
                running -= 1
                if isinstance(error, Busy):
                    busy.setdefault(error.key, []).append(task)
                else:
                    yield from end(task, error)
        elif busy:
            tell("waiting for other processes that compute what is left")
            store.wait(busy)
        for key in [key for key in busy if not store.is_held(key)]:
            for task in busy.pop(key):
                put(task)
