"""Kills at random moments: every finished byte stays, and the next run ends with the same numbers."""

from __future__ import annotations

import random
import time

import pytest
from trials import RUN, find_broken, list_values, measure, start

KILLS = 50


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_a_run_that_was_killed_ends_the_same(tmp_path):
    lot = random.Random(0)
    undisturbed, seconds = measure(tmp_path)
    kills, trial = 0, 0
    while kills < KILLS:
        trial += 1
        store = tmp_path / f"store{trial}"
        for _ in range(lot.randint(1, 3)):
            command = start(tmp_path / "killed", *RUN, "--store", str(store))
            time.sleep(lot.uniform(0, seconds))
            command.process.kill()
            kills += command.wait() == -9
            assert not find_broken(store)
        before = list_values(store)
        command = start(tmp_path / "again", *RUN, "--store", str(store))
        assert command.wait() == 0, command.err.read_text()
        assert command.scores() == undisturbed.scores()
        after = list_values(store)
        assert {at: after[at] for at in before} == before
        assert not [place for place in (store / "partial").iterdir() if len(place.name) == 16]
        assert not (store / "damaged").exists()
    print(f"{kills} kills in {trial} runs of {seconds:.1f} s")
