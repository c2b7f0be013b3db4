"""Several processes on one store, some of which are killed or fall asleep: all others end with the same numbers."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest
from trials import CONTEXT, RUN, find_broken, measure, start

ROUNDS = 6
SLEEPS = 6


def _watch(store, stop, counts):
    """List and prune a store again and again; counts calls, and those that failed."""
    from bench.cli.commands import main

    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        while not stop.is_set():
            for words in (["store", "ls"], ["store", "prune", "--dry-run"], ["store", "prune"]):
                try:
                    main([*words, "--store", store])
                except SystemExit as done:
                    failed = bool(done.code)
                except BaseException:
                    failed = True
                with counts.get_lock():
                    counts[0] += 1
                    counts[1] += failed
            time.sleep(0.1)


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", [2, 4])
def test_processes_share_a_store_while_some_are_killed(tmp_path, number):
    lot = random.Random(number)
    undisturbed, seconds = measure(tmp_path)
    kills = calls = 0
    for trial in range(ROUNDS if number == 2 else ROUNDS // 2):
        store = tmp_path / f"store{trial}"
        stop, counts = CONTEXT.Event(), CONTEXT.Array("i", 2)
        watcher = CONTEXT.Process(target=_watch, args=(str(store), stop, counts))
        watcher.start()
        running = [start(tmp_path / "runs", *RUN, "--store", str(store)) for _ in range(number)]
        for _ in range(number):
            time.sleep(lot.uniform(0, seconds))
            victim = lot.randrange(number)
            running[victim].process.kill()
            kills += running[victim].wait() == -9
            running[victim] = start(tmp_path / "runs", *RUN, "--store", str(store))
        for command in running:
            assert command.wait() == 0, command.err.read_text()
            assert command.scores() == undisturbed.scores()
        stop.set()
        watcher.join()
        calls += counts[0]
        assert counts[1] == 0, f"{counts[1]} of {counts[0]} calls failed"
        assert not find_broken(store)
    print(f"{number} processes: {kills} kills, {calls} calls of ls and prune")


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_a_process_that_sleeps_yields_to_the_one_that_took_over(tmp_path):
    lot = random.Random(0)
    words = [word.replace("epochs=3", "epochs=15") for word in RUN]
    whole = start(tmp_path / "runs", *words, "--store", str(tmp_path / "whole"))
    assert whole.wait() == 0
    yielded = 0
    for trial in range(SLEEPS):
        store = tmp_path / f"store{trial}"
        sleeper = start(tmp_path / "runs", *words, "--store", str(store), stale=1.0)
        while not list(store.glob("partial/*/train")):
            time.sleep(0.02)
        time.sleep(lot.uniform(0, 0.3))
        os.kill(sleeper.process.pid, signal.SIGSTOP)
        other = start(tmp_path / "runs", *words, "--store", str(store), stale=1.0)
        time.sleep(1 + lot.uniform(0, 2))
        os.kill(sleeper.process.pid, signal.SIGCONT)
        for command in (sleeper, other):
            assert command.wait() == 0, command.err.read_text()
            assert command.scores() == whole.scores()
        yielded += "waiting for another process" in sleeper.err.read_text()
        assert not find_broken(store) and not (store / "damaged").exists()
    print(f"{SLEEPS} sleeps, {yielded} of which yielded")
