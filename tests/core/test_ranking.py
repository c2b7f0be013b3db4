"""Ranks of many rows, against those that single differences give."""

from __future__ import annotations

import random

import pytest
from test_board import other

from bench.boards import pairs
from bench.boards.pairs import rank
from bench.boards.statistics import Rank, difference, of_images


def estimated(images, better="higher", bounds=(0.0, 1.0)):
    return of_images((other(better=better, range=bounds),), images, bounds)


def ranked_one_by_one(rivals, margins):
    """The definition: who is ahead where the rounded interval of the paired difference is beyond his own margin."""
    ahead = {}
    for i, mine in enumerate(rivals):
        for j, theirs in enumerate(rivals):
            there = difference(mine, theirs) if i != j else None
            if there and there.ci95:
                end = there.ci95[0] if mine.records[0].better == "higher" else -there.ci95[1]
                ahead[i, j] = round(end, 3) > round(margins[i], 3)
    places = range(len(rivals))
    return [
        Rank(
            1 + sum(ahead.get((j, i), False) for j in places),
            len(rivals) - sum(ahead.get((i, j), False) for j in places),
        )
        for i in places
    ]


@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, None)])
def test_ranks_of_many_rows_are_those_of_their_differences(monkeypatch, better, seeds, bounds):
    monkeypatch.setattr(pairs, "BLOCK", 7)
    draw = random.Random(0)
    levels = [draw.random() for _ in range(20)]
    tables = [
        {str(s): [round(min(1.0, max(0.0, draw.gauss(level, 0.2))) * 20) / 20 for _ in range(12)] for s in range(seeds)}
        for level in levels
    ]
    tables += [tables[0], {seed: [1.0] * 12 for seed in tables[0]}, {seed: [0.0] * 12 for seed in tables[0]}]
    tables += [{seed: [v + 0.0005 for v in values] for seed, values in tables[0].items()}]  # apart by what is rounded
    tables += [{seed: [None, *values[1:]] for seed, values in tables[1].items()}]
    tables += [{seed: values[1:] for seed, values in tables[1].items()}, {"other": tables[1]["0"]}]
    rivals = [estimated(table, better, bounds) for table in tables]
    margins = [0.06 * (place % 3 == 0) for place in range(len(rivals))]
    assert rank(rivals, margins) == ranked_one_by_one(rivals, margins)
    assert rank(rivals) == ranked_one_by_one(rivals, [0.0] * len(rivals))
    assert len(set(rank(rivals))) > 10


def test_only_pairs_that_rounding_could_decide_are_compared_one_by_one(monkeypatch):
    compared = []
    monkeypatch.setattr(pairs, "difference", lambda *both: compared.append(both) or difference(*both))
    draw = random.Random(0)
    rivals = [estimated({"0": [draw.random() for _ in range(50)]}) for _ in range(300)]
    rank([*rivals, *rivals])
    assert len(compared) < 10


def test_one_row_or_one_image_has_nothing_to_rank():
    assert rank([]) == [] and rank([estimated({"0": [0.5, 0.25]})]) == [Rank(1, 1)]
    assert rank([estimated({"0": [0.5]}), estimated({"0": [0.25]})]) == [Rank(1, 2)] * 2
