"""The board of cheats, as it is published: none of them ranks first, and none is ranked unseen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.boards import read_board

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "leaderboards" / "canaries"
RECORDS = [json.loads(line) for line in (FOLDER / "records" / "suite.jsonl").read_text().splitlines()]


THREATS = {"passive_fooling:weight=4.0", "active_fooling", "fairwashing", "backdoor"}  # components of the suite's own


@pytest.fixture(scope="module")
def board():
    return read_board(FOLDER)


def is_canary(row):
    """Whether a component of a row comes from the plugin of the board."""
    plugins = {text for record in row.records for text in record.provenance["plugins"].values()}
    return any(text.startswith("bench-canaries ") for text in plugins)


def is_honest(row):
    return not is_canary(row) and row.axes["defense"] not in THREATS


def test_no_canary_is_ranked_before_an_honest_row(board):
    groups = {}
    for row in board.rows:
        groups.setdefault(row.group, []).append(row)
    for rows in groups.values():
        honest = [row for row in rows if row.rank and is_honest(row)]
        assert honest
        for row in filter(is_canary, rows):
            assert not row.rank or all(row.rank.best > other.rank.last for other in honest), row.axes


def test_every_canary_is_seen_or_falls(board):
    canaries = list(filter(is_canary, board.rows))
    assert len(canaries) == 16
    falls = {row.axes["defense"] for row in canaries if not row.missing}
    assert falls == {"manipulated", "manipulated:weight=100.0"}


def test_no_manipulated_network_ranks_first(board):
    rows = {row.axes["defense"]: row for row in board.rows if row.axes["explainer"] == "gradient"}
    assert rows.keys() >= THREATS and not rows["fairwashing"].rank
    assert rows["passive_fooling:weight=4.0"].rank.best > rows["ce"].rank.last
    assert all(rows[threat].rank.best > 1 for threat in THREATS - {"fairwashing"})
    assert all(threat.partition(":")[0] in board.protocol.about for threat in THREATS)
    (trigger,) = {column for column in board.columns if (column.metric, column.attack) == ("topk_overlap", "trigger")}
    left = {name: board.cell(rows[name], trigger).estimate.value for name in ("ce", "backdoor")}
    assert left["backdoor"] < 0.1 and left["ce"] > 0.8


def test_honest_rows_carry_no_flag(board):
    honest = [row for row in board.rows if is_honest(row)]
    assert {row.axes["explainer"] for row in honest} == {"gradient", "smoothgrad:samples=2", "lrp"}
    assert all(row.rank and not any(record.flags for record in row.records) for row in honest)


def test_the_board_names_every_canary(board):
    for axes in (row.axes for row in board.rows if is_canary(row)):
        name, _, parameter = (axes["explainer"] if axes["defense"] == "ce" else axes["defense"]).partition(":")
        assert (parameter.removeprefix("trick=") if name in ("cheat", "arm") else name) in board.protocol.about


def test_without_its_plugin_the_board_builds_and_says_what_to_install(bench_, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    board = "leaderboards/canaries"
    assert bench_("leaderboard", "build", "--check", board) == (0, "", "")
    assert bench_("leaderboard", "validate", board)[0] == 0
    code, out, err = bench_("leaderboard", "verify", board, "--store", str(tmp_path))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.endswith(f"; records of {board} were made with bench-canaries 0.1.0, which is not installed\n")
