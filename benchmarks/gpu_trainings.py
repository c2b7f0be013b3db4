"""Stage 3 of on_gpu.sh: trainings of the board cifar10-lenet at full scale, several at once on one device.

python benchmarks/gpu_trainings.py WORK OUT UNTIL AT_ONCE [--tiny] DEFENSE...

Each is a `bench run` in a process of its own, which trains and then computes the board's records of the defense. They
start in the order given, the next as one ends, and stop at UNTIL, in seconds since 1970. The store WORK/store keeps
what is finished and a checkpoint of each epoch, so that another call goes on from there. Seconds of work that shares a
device mean nothing, so metrics in seconds are left out. Packs the results into OUT every half minute.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from gpu_results import pack

from bench.boards import read_protocol
from bench.components import Metric, use_data_dir
from bench.engine import VOCABULARY, Graph, Memory, Store, choose_device, installed, select

BOARD = Path(__file__).parents[1] / "leaderboards" / "cifar10-lenet"
FULL = {"schedule": ["joo2023_lenet"]}
TINY = {
    "schedule": ["joo2023_lenet:epochs=2,decay=(1),batch=32,limit=64"],
    "explainer": ["gradient"],
    "attack": ["uniform_noise"],
    "metric": ["accuracy", "topk_overlap"],
    "samples": ["10"],
}
PACKED, GRACE = 30.0, 8.0  # seconds between two packs, and for a process to end by itself


def options(tiny: bool) -> dict[str, list[str]]:
    """The options of the runs besides the defense."""
    metrics = [text for text in read_protocol(BOARD).metrics if unit(text) != "s"]
    return {"metric": metrics, **(TINY if tiny else FULL)}


def unit(text: str) -> str:
    metric = installed().read("metric", text)
    assert isinstance(metric, Metric)
    return metric.unit


def find_key(defense: str, given: dict[str, list[str]], store: Path) -> str:
    """The key of the weights that a run trains."""
    selection = select(installed(), {**given, "defense": [defense]}, False, read_protocol(BOARD))
    return Graph(VOCABULARY, selection.cases[0], Store(store, print), choose_device("cpu"), Memory()).key("trained")


def start(defense: str, given: dict[str, list[str]], work: Path) -> subprocess.Popen[bytes]:
    words = [word for option, values in given.items() for value in values for word in (f"--{option}", value)]
    run = [sys.executable, "-m", "bench.cli", "run", "--board", str(BOARD), "--store", str(work / "store")]
    with (work / f"{defense.replace(':', '-')}.log").open("ab") as log:
        return subprocess.Popen([*run, "--no-reference", "--defense", defense, *words], stdout=log, stderr=log)


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tiny = "--tiny" in sys.argv
    work, out, until, at_once, *defenses = (word for word in sys.argv[1:] if word != "--tiny")
    folder = Path(work)
    given, running, packed = options(tiny), [], time.time()
    with use_data_dir(os.environ.get("BENCH_DATA_DIR")):
        keys = {defense: find_key(defense, given, folder / "store") for defense in defenses}
    (folder / "trainings.json").write_text(json.dumps(keys))
    try:
        while (defenses or running) and time.time() < float(until):
            running = [process for process in running if process.poll() is None]
            while defenses and len(running) < int(at_once):
                running.append(start(defenses.pop(0), given, folder))
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
