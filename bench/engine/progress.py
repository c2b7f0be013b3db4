"""Shows what a run has done and what is left: a bar on a terminal and in a notebook, elsewhere a line at times."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from bench.engine.bars import describe_count, say_span, tqdm
from bench.engine.tasks import CHECK, RECORD, Ended, Executor, Task

EVERY = 30.0  # seconds from one line to the next
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
        self.thread = threading.Thread(target=self._print, daemon=True)
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
        self.executor, self.tasks, self.began = executor, tasks, time.monotonic()
        return self

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

    def _print(self) -> None:
        while not self.stop.wait(EVERY):
            with contextlib.suppress(OSError, ValueError):  # of a stream that is closed
                print(f"bench: {self.describe()}", file=sys.stderr, flush=True)

    def describe(self) -> str:
        """What is done, what is left, what is under way, and when all of it ends."""
        with self.lock:
            running = [task for task in self.tasks if task.key in self.since]
            left = self._estimate()
        text = f"{self.done} of {self.total} cells done, {self.total - self.done} left"
        text += f", {self.failed} failed" if self.failed else ""
        if running:
            kinds = Counter(WORDS.get(task.name, task.name) for task in running)
            text += "; now " + ", ".join(f"{n} x {word}" if n > 1 else word for word, n in kinds.items())
            text += describe_count()
        if left is None:
            return f"{text}; when all ends cannot be said yet"
        return f"{text}; all ends in about {say_span(left)}, at {say_time(left)}"

    def _estimate(self) -> float | None:
        """The seconds that are left, from those of the tasks that have ended; None where none of a kind has."""
        now = time.monotonic()
        means = {name: math.fsum(spent) / len(spent) for name, spent in self.seconds.items()}
        left = [task for task in self.tasks if task.key not in self.ended and not task.cells <= self.ended]
        if not left or not {task.name for task in left} <= means.keys():
            return None
        ahead = math.fsum(max(0.0, means[task.name] - now + self.since.get(task.key, now)) for task in left)
        # Several may run side by side.
        work = self.spent + math.fsum(now - since for since in self.since.values())
        return ahead * (now - self.began) / work if work else None


def say_time(seconds: float) -> str:
    """The time of day after some seconds from now, with the day where that is another one: "14:05", "Sat 02:30"."""
    now = datetime.now()
    then = now + timedelta(seconds=seconds)
    return f"{then:%H:%M}" if then.date() == now.date() else f"{then:%a %d %b, %H:%M}"
