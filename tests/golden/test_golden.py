"""Scores of a run of seconds, pinned.

A difference is a bug, or a new `version`, a line in leaderboards/CHANGES.md and a new scores.json in the same commit.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench.engine import evidence

SCORES = Path(__file__).parent / "scores.json"
# Other hardware sums in another order; a pixel more or less in the top 20 of one of 16 images is 0.003.
TOLERANCE = 0.02


@pytest.fixture
def one_thread():
    """Two threads sum in another order, and an epoch amplifies that: an overlap of a ReLU network moves by 0.04."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def scores(tiny_run, one_thread, wide_lenet, monkeypatch):
    monkeypatch.setattr(evidence, "CHECKED", 2)  # checks are not pinned, and take longer than the scores
    outcome = tiny_run(
        defense=["ce", "l2", "cosd", "l2_cosd"],
        explainer=["gradient", "smoothgrad:samples=4", "random_map"],
        attack=["topk:steps=6", "uniform_noise"],
        model=["lenet", "lenet:activation=relu"],
        schedule=["quick:epochs=1,limit=128"],
        samples=["16"],
        metric=["accuracy", "attacked_accuracy", "kept_rate", "topk_overlap", "spearman", "cosine"],
    )
    assert not outcome.failures
    return {
        " ".join([r.metric, *(r.axes.get(a, "-") for a in ("model", "defense", "explainer", "attack"))]): round(
            r.value, 4
        )
        for r in outcome.records.values()
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pinned_scores(scores):
    expected = json.loads(SCORES.read_text())
    assert scores.keys() == expected.keys()
    moved = {name: (expected[name], value) for name, value in scores.items() if abs(value - expected[name]) > TOLERANCE}
    assert not moved
