"""Stage 3 of on_gpu.sh: trainings of the board cifar10-lenet at full scale, several at once on one device.

python benchmarks/gpu_trainings.py WORK OUT UNTIL AT_ONCE JOB...

A job is options of `bench run`, such as "--defense ssr --seed 1", on top of the board's. Each is a process of its own.
They start in the order given, the next as one ends, and stop at UNTIL, in seconds since 1970. First all networks are
trained, then their records computed: those of the first explainer, then all. The store WORK/store keeps what is
finished and a checkpoint of each epoch, so that another call goes on from there. Seconds of work that shares a device
mean nothing, so metrics in seconds are left out. Packs the results into OUT every half minute.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from gpu_results import pack

from bench.boards import read_protocol
from bench.components import Metric, use_data_dir
from bench.engine import VOCABULARY, Graph, Memory, Store, choose_device, installed, select
from bench.errors import BenchError

BOARD = Path(__file__).parents[1] / "leaderboards" / "cifar10-lenet"
PACKED, GRACE = 30.0, 8.0  # seconds between two packs, and for a process to end by itself

Options = dict[str, list[str]]


def rounds() -> list[Options]:
    """The options of each job, round by round, besides its own: train, then measure."""
    protocol = read_protocol(BOARD)
    first = {"explainer": [protocol.axes["explainer"][0]]}
    metrics = {"metric": [text for text in protocol.metrics if unit(text) != "s"]}
    return [first | {"attack": ["no_attack"], "metric": ["accuracy"]}, first | metrics, metrics]


def unit(text: str) -> str:
    metric = installed().read("metric", text)
    assert isinstance(metric, Metric)
    return metric.unit


def parse(job: str) -> Options:
    """The options of a job: each takes one value, and may be given several times."""
    words = shlex.split(job)
    options: Options = {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        options.setdefault(name.removeprefix("--"), []).append(value)
    return options


def find_key(options: Options, store: Path) -> str:
    """The key of the weights that a run trains."""
    selection = select(installed(), options, False, read_protocol(BOARD))
    return Graph(VOCABULARY, selection.cases[0], Store(store, print), choose_device("cpu"), Memory()).key("trained")


def start(options: Options, work: Path, log: Path) -> subprocess.Popen[bytes]:
    words = [word for option, values in options.items() for value in values for word in (f"--{option}", value)]
    run = [sys.executable, "-m", "bench.cli", "run", "--board", str(BOARD), "--store", str(work / "store")]
    with log.open("ab") as lines:
        shared = {**os.environ, "BENCH_SHARED": "1"}
        return subprocess.Popen([*run, "--no-reference", *words], stdout=lines, stderr=lines, env=shared)


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    work, out, until, at_once, *jobs = sys.argv[1:]
    folder, packed = Path(work), time.time()
    with use_data_dir(os.environ.get("BENCH_DATA_DIR")):
        todo, keys = rounds(), {}
        for job in jobs:
            try:
                keys[job] = find_key(todo[0] | parse(job), folder / "store")
            except BenchError as error:
                print(f"left out: {job}: {error}")
    (folder / "trainings.json").write_text(json.dumps(keys))
    # What a job says itself goes before what its round says.
    waiting = [(given | parse(job), folder / f"job-{n}.log") for given in todo for n, job in enumerate(keys)]
    running: list[subprocess.Popen[bytes]] = []
    try:
        while (waiting or running) and time.time() < float(until):
            running = [process for process in running if process.poll() is None]
            while waiting and len(running) < int(at_once):
                options, log = waiting.pop(0)
                running.append(start(options, folder, log))
            if time.time() - packed > PACKED:
                with contextlib.suppress(OSError):  # a checkpoint has just been replaced; the next pack has the new one
                    pack(folder, Path(out))
                packed = time.time()
            time.sleep(0.2)
    finally:
        for process in running:
            process.terminate()
        limit = time.monotonic() + GRACE
        for process in running:
            try:
                process.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    main()
