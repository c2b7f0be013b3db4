"""A small board with valid submissions, and a site."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
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


@pytest.fixture
def site(tmp_path):
    """A folder and its address."""
    folder = tmp_path / "site"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
