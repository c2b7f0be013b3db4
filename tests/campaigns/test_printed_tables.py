"""The tiny scale of every board of a paper's table runs, and fills each printed cell."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.boards import read_protocol, scale_protocol
from bench.engine import choose_device, list_cells, run_cells, select

pytestmark = pytest.mark.campaign
FOLDER = Path(__file__).parents[2] / "leaderboards" / "papers"
# On a CPU there is no peak of GPU memory.
MAY_BE_UNDEFINED = {"train_memory"}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("folder", sorted(file.parent for file in FOLDER.glob("*/board.toml")), ids=lambda f: f.name)
def test_a_tiny_board_runs(folder, catalog, store):
    protocol = scale_protocol(read_protocol(folder), "tiny")
    chosen = select(catalog, {}, protocol=protocol)
    outcome = run_cells(list_cells(catalog, chosen.cases, chosen.metrics), catalog, store, choose_device("cpu"))
    assert not outcome.failures
    for place in protocol.paper.figures:
        mine = [
            record
            for record in outcome.records.values()
            if record.metric == place.metric and all(record.axes.get(axis, text) == text for axis, text in place.axes)
        ]
        assert mine, place
        assert place.metric in MAY_BE_UNDEFINED or any(record.value is not None for record in mine), place
