"""Shows what a run has done and what is left: a bar on a terminal and in a notebook, elsewhere a line at times."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from bench.engine.bars import Count, find_count, say_span, tqdm
from bench.engine.tasks import CHECK, RECORD, Ended, Executor, Task

EVERY = 30.0  # seconds from one line to the next
SHOWN = 4  # tasks of a kind, side by side, of which a line says how far each is
WORDS = {
    CHECK: "reading images",
    "trained": "training",
    "prepared": "preparing explainers",
    "clean_attributions": "explaining",
    "attack_run": "attacking",
    "attack_checks": "checking attacks",
    "map_checks": "checking maps",
    "attacked_attributions": "explaining",
    RECORD: "scoring",
}


class Progress:
    """Shows how many cells of a run are done, whichever executor computes them.

    It stands before the executor, once that is known, and sees what starts and ends.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done, self.failed = total, 0, 0
        self.tasks: Sequence[Task] = ()
        self.ended: set[str] = set()
        self.since: dict[str, float] = {}
        self.seconds: dict[str, list[float]] = {}  # by the names of values, what those took that did not fail
        self.spent = 0.0
        self.lock, self.stop = threading.Lock(), threading.Event()

    def __enter__(self) -> Progress:
        self.bar = tqdm(total=self.total, desc="cells", unit="cell", disable=None, leave=False, delay=1)
        self.thread = threading.Thread(target=_print_lines, args=(self.describe, self.stop), daemon=True)
        if self.bar.disable:
            self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        if self.thread.is_alive():  # no line comes after the end
            self.thread.join()
        self.bar.close()

    def count(self, key: str, failed: bool = False) -> None:
        """Add a cell that is done, or has failed."""
        self.ended.add(key)
        self.done, self.failed = self.done + 1, self.failed + failed
        self.bar.update()

    def watch(self, executor: Executor, tasks: Sequence[Task]) -> Executor:
        """The executor, watched at these tasks."""
        self.executor, self.began, self.tasks = executor, time.monotonic(), tasks
        return self

    @property
    def is_wide(self) -> bool:
        return self.executor.is_wide

    def has_room(self) -> bool:
        return self.executor.has_room()

    def start(self, task: Task) -> None:
        with self.lock:
            self.since[task.key] = time.monotonic()
        self.executor.start(task)

    def wait(self, seconds: float | None) -> list[Ended]:
        found = self.executor.wait(seconds)
        with self.lock:
            for task, error in found:
                spent = time.monotonic() - self.since.pop(task.key)
                self.spent += spent
                if error is None:
                    self.ended.add(task.key)
                    self.seconds.setdefault(task.name, []).append(spent)
        return found

    def find_count(self, task: Task) -> Count | None:
        return self.executor.find_count(task)

    def describe(self) -> str:
        """What is done, what is left, what is under way, and when all of it ends."""
        with self.lock:
            text = f"{self.done} of {self.total} cells done, {self.total - self.done} left"
            text += f", {self.failed} failed" if self.failed else ""
            running: dict[str, list[Task]] = {}
            for task in self.tasks:
                if task.key in self.since:
                    running.setdefault(WORDS.get(task.name, task.name), []).append(task)
            text += "; now " + ", ".join(map(self._describe_work, running, running.values())) if running else ""
            return text + self._describe_end()

    def _describe_work(self, word: str, tasks: Sequence[Task]) -> str:
        counts = [str(count) for count in map(self.executor.find_count, tasks) if count]
        counts[SHOWN:] = [f"{len(counts) - SHOWN} more"] if len(counts) > SHOWN else []
        return (f"{len(tasks)} x " if len(tasks) > 1 else "") + word + (f" ({'; '.join(counts)})" if counts else "")

    def _describe_end(self) -> str:
        left = [task for task in self.tasks if task.key not in self.ended and not task.cells <= self.ended]
        if not left:
            return ""
        now = time.monotonic()
        took = {name: math.fsum(spent) / len(spent) for name, spent in self.seconds.items()}
        running = {task.key: rest for task in left if (rest := self._estimate(task, took, now)) is not None}
        for task in left:  # where none like it has ended yet, one under way says what the others take
            if task.key in running:
                took.setdefault(task.name, now - self.since[task.key] + running[task.key])
        waiting = [task for task in left if task.key not in self.since]
        ahead = math.fsum([*running.values(), *(took.get(task.name, 0.0) for task in waiting)])
        # Several may run side by side, and each takes its own time.
        work = self.spent + math.fsum(now - since for since in self.since.values())
        seconds = max([ahead * (now - self.began) / work if work else ahead, *running.values()])
        if all(task.key in running or task.name in took for task in left):
            return f"; the run takes about another {say_span(seconds)}, until {say_time(seconds)}"
        # What is under way may take hours, whatever the rest takes.
        unknown = [task for task in left if task.key in self.since and not running.get(task.key)]
        if not seconds or any(task.name not in took for task in unknown):
            return "; no estimate of the end yet"
        return f"; the run takes at least another {say_span(seconds)}"

    def _estimate(self, task: Task, took: dict[str, float], now: float) -> float | None:
        """The seconds that a task under way still takes, by its own count or by those that have ended before."""
        if task.key not in self.since:
            return None
        count = self.executor.find_count(task)
        known = [count.left() if count else None]
        if task.name in took:
            known.append(took[task.name] - now + self.since[task.key])
        return max((max(0.0, seconds) for seconds in known if seconds is not None), default=None)


@contextlib.contextmanager
def tell_work() -> Iterator[None]:
    """Inside, where no bar shows, a line at times says how far the work in this process is."""
    stop = threading.Event()
    thread = threading.Thread(target=_print_lines, args=(_describe_count, stop), daemon=True)
    with tqdm(disable=None, leave=False, delay=math.inf) as bar:
        if bar.disable:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            if thread.is_alive():
                thread.join()


def _describe_count() -> str:
    count = find_count()
    return f"{count.name}, {count}" if count else ""


def _print_lines(describe: Callable[[], str], stop: threading.Event) -> None:
    while not stop.wait(EVERY):
        if text := describe():
            with contextlib.suppress(OSError, ValueError):  # of a stream that is closed
                print(f"bench: {text}", file=sys.stderr, flush=True)


def say_time(seconds: float) -> str:
    """The time of day after some seconds from now, with the day where that is another one: "14:05", "Sat 02:30"."""
    now = datetime.now()
    then = now + timedelta(seconds=seconds)
    return f"{then:%H:%M}" if then.date() == now.date() else f"{then:%a %d %b, %H:%M}"
