"""What is shown of a run: lines where there is no terminal, whichever executor computes."""

from __future__ import annotations

import functools
import io
import re
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bench.engine import VOCABULARY, bars, cluster, progress
from bench.engine.bars import counted, find_count, say_span
from bench.engine.phases import measure
from bench.engine.progress import Progress, say_time, tell_work


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still: `clock.now` is the time."""
    found = SimpleNamespace(now=100.0)
    monkeypatch.setattr(time, "monotonic", lambda: found.now)
    return found


class Several:
    """Computes what it has been given, and ends what it is told to."""

    def __init__(self):
        self.ending, self.counts = [], {}

    def has_room(self):
        return True

    def start(self, task):
        pass

    def wait(self, seconds):
        ended, self.ending = self.ending, []
        return ended

    def find_count(self, task):
        return self.counts.get(task.key)


def make_tasks():
    """Two trainings, each with a record that needs it."""
    return [
        SimpleNamespace(name=name, key=f"{name}{n}", cells={f"record{n}"})
        for n in (1, 2)
        for name in ("trained", "record")
    ]


def test_the_end_follows_from_what_like_tasks_took(clock):
    tasks, executor = make_tasks(), Several()
    shown = Progress(2)
    watched = shown.watch(executor, tasks)
    watched.start(tasks[0])
    clock.now += 60
    said = "0 of 2 cells done, 2 left; now training; no estimate of the end yet"
    assert shown.describe() == said
    for task, seconds in ((tasks[0], 0), (tasks[1], 20)):
        if seconds:
            watched.start(task)
        clock.now += seconds
        executor.ending = [(task, None)]
        assert watched.wait(None) == [(task, None)]
    shown.bar = SimpleNamespace(update=lambda: None)
    shown.count("record1")
    watched.start(tasks[2])
    clock.now += 15
    # 60 s for a training, of which 15 are over, and 20 s for a score.
    assert shown.describe().startswith(
        "1 of 2 cells done, 1 left; now training; the run takes about another 65 s, until "
    )


def test_what_failed_is_not_waited_for(clock):
    tasks, executor = make_tasks(), Several()
    shown = Progress(2)
    shown.bar = SimpleNamespace(update=lambda: None)
    watched = shown.watch(executor, tasks)
    for task, error in ((tasks[0], None), (tasks[1], None), (tasks[2], ValueError())):
        watched.start(task)
        clock.now += 10
        executor.ending = [(task, error)]
        watched.wait(None)
    shown.count("record1")
    assert "1 left; the run takes about another 20 s" in shown.describe()
    shown.count("record2", failed=True)
    assert shown.describe() == "2 of 2 cells done, 0 left, 1 failed"


def test_tasks_side_by_side_end_sooner(clock):
    tasks, executor = make_tasks(), Several()
    shown = Progress(2)
    others = [SimpleNamespace(name="trained", key=key, cells={"other"}) for key in "ab"]
    watched = shown.watch(executor, [*tasks[::2], *others])
    for task in tasks[::2]:
        watched.start(task)
    clock.now += 30
    executor.ending = [(task, None) for task in tasks[::2]]
    watched.wait(None)
    # Two trainings of 30 s are left, and two run at a time.
    assert "the run takes about another 30 s" in shown.describe()


def test_all_does_not_end_before_what_is_under_way(clock):
    tasks, executor = make_tasks(), Several()
    shown = Progress(2)
    watched = shown.watch(executor, tasks[::2])
    watched.start(tasks[0])
    clock.now += 30
    executor.ending = [(tasks[0], None)]
    watched.wait(None)
    watched.start(tasks[2])
    with counted(50, "train", "step") as add:
        executor.counts[tasks[2].key] = find_count()
        clock.now += 20
        add(10)
        # The other training took 30 s in all; this one is slower.
        said = shown.describe()
    assert "now training (step 10 of 50, 80 s left); the run takes about another 80 s, until " in said


def test_what_is_known_of_the_end_is_said(clock):
    tasks, executor = make_tasks(), Several()
    shown = Progress(2)
    watched = shown.watch(executor, tasks)
    watched.start(tasks[0])
    assert shown.describe().endswith("; no estimate of the end yet")
    with counted(50, "train", "step") as add:
        executor.counts[tasks[0].key] = find_count()
        clock.now += 20
        add(10)
        # 80 s of this training, 100 s of the other one; of scores nothing is known.
        assert shown.describe().endswith("; the run takes at least another 3 min")


def test_while_nothing_is_known_of_what_is_under_way_no_end_is_guessed(clock):
    tasks, executor = make_tasks(), Several()
    shown = Progress(2)
    watched = shown.watch(executor, tasks)
    watched.start(tasks[3])
    clock.now += 2
    executor.ending = [(tasks[3], None)]
    watched.wait(None)
    watched.start(tasks[0])
    # Another score takes 2 s, but the training may take hours.
    assert shown.describe().endswith("; now training; no estimate of the end yet")


def test_tasks_side_by_side_each_say_how_far_they_are(clock):
    tasks, executor = make_tasks()[::2], Several()
    shown = Progress(2)
    watched = shown.watch(executor, tasks)
    for task in tasks:
        watched.start(task)
    with counted(50, "train", "step") as add:
        executor.counts = dict.fromkeys((task.key for task in tasks), find_count())
        clock.now += 20
        add(10)
        said = "now 2 x training (step 10 of 50, 80 s left; step 10 of 50, 80 s left); the run takes about another 80 s"
        assert f"{said}, until " in shown.describe()


def test_of_many_tasks_side_by_side_a_few_say_how_far_they_are(clock, monkeypatch):
    monkeypatch.setattr(progress, "SHOWN", 1)
    tasks, executor = make_tasks()[::2], Several()
    shown = Progress(2)
    watched = shown.watch(executor, tasks)
    for task in tasks:
        watched.start(task)
    with counted(50, "train", "step"):
        executor.counts = dict.fromkeys((task.key for task in tasks), find_count())
        assert "now 2 x training (step 0 of 50; 1 more); no estimate" in shown.describe()


def test_before_any_part_is_done_passes_of_the_network_show_that_work_goes_on(clock):
    network = nn.Flatten()
    with counted(256, "attack_run", "image") as add, measure([], "attack", network):
        for _ in range(1200):
            network(torch.zeros(1, 2))
        assert str(find_count()) == "image 0 of 256, 1,200 passes"
        clock.now += 85
        add(85)
        network(torch.zeros(1, 2))
        assert str(find_count()) == "image 85 of 256, 3 min left"


def test_before_any_part_is_done_a_terminal_shows_passes(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(bars, "tqdm", functools.partial(bars.tqdm, mininterval=0))
    network = nn.Flatten()
    with counted(256, "attack_run", "image"), measure([], "attack", network):
        time.sleep(1.05)  # until a bar is shown
        network(torch.zeros(1, 2))
        network(torch.zeros(1, 2))
    assert "| 0/256 [00:01<?, ?image/s, 2 passes]" in sys.stderr.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_worker_of_a_cluster_says_how_far_it_is(monkeypatch):
    monkeypatch.setattr(cluster, "TELLING", 0.01)
    counts = cluster.Counts()
    actor = SimpleNamespace(put=SimpleNamespace(remote=counts.put))
    with counted(50, "train", "step") as add, cluster._telling(actor, "a"):
        add(20)
        while (told := counts.read().get("a")) is None or not told.done:  # it may tell before the steps are added
            time.sleep(0.01)
    assert (told.done, told.total) == (20, 50) and told.since < told.changed < 0  # seconds from now


def test_a_count_says_what_is_left(clock):
    with counted(50, "train", "step", 10) as add, counted(3, "inner", "image"):
        count = find_count()
        assert str(count) == "step 10 of 50"
        clock.now += 5
        add(10)
        assert str(count) == "step 20 of 50, 15 s left"
    assert find_count() is None and bars._counts == []


def test_what_is_left_of_a_count_shrinks_while_it_stands(clock):
    with counted(256, "attack_run", "image") as add:
        clock.now += 170
        add(170)
        clock.now += 60
        assert str(find_count()) == "image 170 of 256, 26 s left"
        clock.now += 60  # longer than the others took
        assert str(find_count()) == "image 170 of 256"


def test_every_stored_value_has_a_word():
    assert {value.name for value in VOCABULARY.values.values() if value.stored} < set(progress.WORDS)


def test_spans_and_times_in_words():
    assert [say_span(s) for s in (0.4, 89, 90, 1500, 12000)] == ["0 s", "89 s", "2 min", "25 min", "3 h 20 min"]
    assert say_time(0) in (time.strftime("%H:%M"), time.strftime("%H:%M", time.localtime(time.time() - 60)))
    assert ", " in say_time(36 * 3600)


def test_a_log_file_gets_lines_and_a_terminal_none(bench_, monkeypatch, store):
    monkeypatch.setattr(progress, "EVERY", 0.05)
    words = ("run", "--no-reference", "--metric", "train_time", "--schedule", "quick:epochs=1,batch=16,limit=512")
    code, _, err = bench_(*words)
    lines = err.splitlines()
    assert code == 0 and all(line.startswith("bench: ") for line in lines)
    assert re.search(
        r"^bench: 0 of 1 cells done, 1 left; now training \(step \d+ of 32, \d+ s left\); the run takes at least",
        err,
        re.M,
    )
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    code, _, err = bench_(*words, "--seed", "1")
    assert code == 0 and "cells done" not in err


def test_work_without_cells_is_told_in_lines_where_no_bar_shows(capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.02)
    with tell_work(), counted(10, "train", "step") as add:
        add(1)
        time.sleep(0.2)
    assert capsys.readouterr().err.splitlines()[0].startswith("bench: train, step 1 of 10")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with tell_work(), counted(10, "train", "step"):
        time.sleep(0.1)
    assert "bench:" not in capsys.readouterr().err
