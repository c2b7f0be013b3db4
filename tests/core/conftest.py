"""A small board with valid submissions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from submissions import PROTOCOL, submit


@pytest.fixture(scope="session")
def made_board(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "tiny"
    folder.mkdir()
    (folder / "board.toml").write_text(PROTOCOL)
    submit(folder, "suite", both={"defense": "ce"})
    submit(folder)
    return folder


@pytest.fixture
def tiny(made_board, tmp_path):
    """A board with two valid submissions, suite and acme."""
    return Path(shutil.copytree(made_board, tmp_path / "tiny"))
