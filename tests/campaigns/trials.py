"""Commands in processes that can be killed and stopped, forked from one that has imported everything."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from bench.engine.store import Store

RUN = ["run", "--defense", "l2", "--metric", "sparsity", "--metric", "accuracy", "--metric", "kept_rate", "--json"]
RUN += ["--schedule", "quick:epochs=3,batch=8,limit=16", "--attack", "topk:k=5,steps=1", "--samples", "4"]
RUN += ["--device", "cpu"]

CONTEXT = multiprocessing.get_context("forkserver")
PLUGINS = ("attacks", "datasets", "defenses", "explainers", "metrics", "models", "schedules")
CONTEXT.set_forkserver_preload(["trials", "bench.cli.commands", "bench.engine", *(f"bench_{name}" for name in PLUGINS)])


@dataclass
class Command:
    """A running command; what it prints lies in files."""

    process: ForkServerProcess
    out: Path
    err: Path

    def wait(self, seconds: float = 300) -> int:
        """Its exit code, negative for a signal."""
        self.process.join(seconds)
        code = self.process.exitcode
        assert code is not None, f"still running after {seconds} s: {self.err.read_text()}"
        return code

    def scores(self) -> dict[tuple[str, str], tuple]:
        """What it measured, by metric and defense."""
        records = json.loads(self.out.read_text())
        return {(r["metric"], r["axes"]["defense"]): (r["value"], r["ci95"], r["kept"], r["n"]) for r in records}


def start(folder: Path, *words: str, stale: float | None = None) -> Command:
    """Start a command with its output in a folder. A lock that is not renewed for `stale` seconds is abandoned."""
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.iterdir()))
    out, err = folder / f"{number}.out", folder / f"{number}.err"
    out.touch()
    process = CONTEXT.Process(target=_run, args=(words, out, err, stale))
    process.start()
    return Command(process, out, err)


def _run(words: tuple[str, ...], out: Path, err: Path, stale: float | None) -> None:
    from bench.cli.commands import main
    from bench.engine import locks

    for number, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    if stale is not None:
        locks.STALE = stale
    main(list(words))


def measure(folder: Path) -> tuple[Command, float]:
    """A run that nothing disturbs, and its seconds; one before it warms up."""
    for attempt in ("first", "second"):
        began = time.monotonic()
        command = start(folder / "undisturbed", *RUN, "--store", str(folder / attempt))
        assert command.wait() == 0, command.err.read_text()
    return command, time.monotonic() - began


def list_values(root: Path) -> dict[tuple[str, str], dict[str, bytes]]:
    """The files of all finished values, by name and key."""
    folders = [f for f in root.glob("*/*") if f.is_dir() and f.parent.name not in ("partial", "damaged")]
    return {(f.parent.name, f.name): {file.name: file.read_bytes() for file in f.iterdir()} for f in folders}


def find_broken(root: Path) -> list[tuple[str, str]]:
    """The finished values that are not whole."""
    store = Store(root, print)
    return [
        at for at, files in list_values(root).items() if store.look(*at, tuple(set(files) - {"checksums.json"})) is None
    ]
