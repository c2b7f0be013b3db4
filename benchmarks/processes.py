"""One process against --jobs 2, --ray and two runs that share a store, on a small board of six defenses; with kills.

For each way: wall and CPU seconds, CPU seconds per value beyond those of one process with one thread, values that were
computed twice, and whether the stored values and the records, but for costs, are the same byte for byte. Values are
counted by what each process moves into the store, which an audit hook of Python's sees. Ray is left out where it is not
installed. Its cluster has two nodes of one core each on this machine; "one lost" kills all processes of one of them.

python benchmarks/processes.py
"""

from __future__ import annotations

import collections
import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from bench.engine.store import UNFINISHED

BOARD = """
title = "many processes"
metrics = ["accuracy", "kept_rate", "insertion", "sparsity"]

[axes]
dataset = ["shapes"]
split = ["test"]
model = ["lenet"]
schedule = ["quick:epochs=1,limit=256"]
defense = ["ce", "gaussian_noise", "l2", "cosd", "l2_cosd", "maxent"]
seed = [0]
explainer = ["gradient"]
attack = ["topk:steps=5", "no_attack"]
eps = ["8/255"]
norm = ["linf"]
target = ["predicted"]
samples = [8]

[reference]
defense = "ce"

[fallback]
surrogate = "gradient"
"""
# Loaded by each process at its start, Ray's workers included.
WATCHING = """
import os, sys

def note(event, arguments):
    if event == "os.rename":
        with open(os.environ["MOVES"], "a") as stream:
            stream.write(f"{os.fsdecode(arguments[1])}\\n")

if "MOVES" in os.environ:
    sys.addaudithook(note)
"""
PLACED = re.compile(r"/(?!partial|damaged)\w+/[0-9a-f]{16}$")


@dataclass
class Way:
    """A way of running the board: the words of each command, its threads, and which process to kill half-way.

    With `nodes`, the commands work on a Ray cluster of so many, and the victim is one of these.
    """

    commands: list[list[str]]
    threads: int = 1
    victim: str = ""
    nodes: int = 0


@dataclass
class Ran:
    wall: float
    cpu: float
    placed: collections.Counter[str]
    records: list[str]
    files: dict[str, bytes]


def run(way: Way, folder: Path, half: int) -> Ran:
    """Run a way on an empty store. Its victim is killed once half of so many values are there."""
    store, moves = folder / "store", folder / "moves"
    moves.touch()
    paths = [str(folder.parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(way.threads),
        "MOVES": str(moves),
    }
    words = [sys.executable, "-m", "bench.cli", "run", "--board", str(folder.parent), "--store", str(store), "--json"]
    with start_nodes(way.nodes, environment) as (address, nodes):
        before, start = os.times(), time.perf_counter()
        running = []
        for number, command in enumerate(way.commands):
            with (folder / f"out{number}").open("w") as out, (folder / f"err{number}").open("w") as err:
                running.append(subprocess.Popen([*words, *command, *address], stdout=out, stderr=err, env=environment))
        killed = not way.victim
        while not killed and running[0].poll() is None:
            if len(list_placed(moves)) >= half:
                if way.nodes:
                    kill_tree(nodes[-1].pid)
                else:
                    found = [pid for pid in list_descendants(running[0].pid) if way.victim in read_command(pid)]
                    os.kill(found[0], signal.SIGKILL)
                killed = True
            time.sleep(0.02)
        for number, process in enumerate(running):
            if process.wait():
                raise SystemExit((folder / f"err{number}").read_text())
        wall, after = time.perf_counter() - start, os.times()
    assert killed, "the run ended before half of it was seen"
    records = [
        json.dumps({name: part for name, part in record.items() if name not in ("cost", "provenance")})
        for record in json.loads((folder / "out0").read_text())
    ]
    files = {
        str(file.relative_to(store)): file.read_bytes()
        for name in ("value.safetensors", "values.parquet")
        for file in sorted(store.rglob(name))
        if UNFINISHED not in file.parts  # what a killed process was writing
    }
    cpu = sum(after[2:4]) - sum(before[2:4])
    return Ran(wall, cpu, collections.Counter(list_placed(moves)), records, files)


@contextlib.contextmanager
def start_nodes(count: int, environment: dict[str, str]) -> Iterator[tuple[list[str], list[subprocess.Popen[bytes]]]]:
    """A Ray cluster of some nodes: what a command takes to use it, and the process that each node descends from."""
    if not count:
        yield [], []
        return
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    environment["RAY_AUTH_MODE"] = "token"  # which Ray asks for where a token is, and does not send by itself
    subprocess.run([*ray, "get-auth-token", "--generate"], check=True, capture_output=True, env=environment)
    one = ["--num-cpus", "1", "--disable-usage-stats", "--block"]
    nodes: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as ending:
        place = ending.enter_context(tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True))
        head = ["--head", "--port", str(port), "--include-dashboard=false", "--temp-dir", place]
        begin = [head, *[["--address", address]] * (count - 1)]
        ending.callback(lambda: [kill_tree(node.pid) for node in nodes])
        for number, words in enumerate(begin, start=1):
            nodes.append(subprocess.Popen([*ray, "start", *words, *one], stdout=subprocess.DEVNULL, env=environment))
            while count_nodes([*ray, "status", "--address", address], environment) < number:
                assert nodes[-1].poll() is None, "a node of Ray ended at once"
        yield ["--ray", address], nodes


def count_nodes(status: list[str], environment: dict[str, str]) -> int:
    told = subprocess.run(status, capture_output=True, text=True, env=environment).stdout
    return len(set(re.findall(r"node_\w+", told.partition("Pending:")[0])))


def kill_tree(pid: int) -> None:
    for each in [pid, *list_descendants(pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def list_placed(moves: Path) -> list[str]:
    """The values and records that were moved into their places, once for each time."""
    return [line for line in moves.read_text().splitlines() if PLACED.search(line)]


def list_descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(file.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        children.setdefault(parent, []).append(int(file.parent.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found[1:]


def read_command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def main() -> None:
    ways = {
        "one process": Way([[]]),
        "one process, 2 threads": Way([[]], threads=2),
        "--jobs 2": Way([["--jobs", "2"]], threads=2),  # which are divided
        "--jobs 2, one killed": Way([["--jobs", "2"]], threads=2, victim="spawn_main"),
        "two runs": Way([[], []]),
    }
    if importlib.util.find_spec("ray"):
        ways["--ray"] = Way([["--ray"]])
        ways["--ray, one killed"] = Way([["--ray"]], victim="ray::compute")
        ways["two Ray nodes"] = Way([[]], nodes=2)
        ways["two Ray nodes, one lost"] = Way([[]], victim="node", nodes=2)
    ran: dict[str, Ran] = {}
    rows = []
    with tempfile.TemporaryDirectory() as place:
        board = Path(place)
        (board / "board.toml").write_text(BOARD)
        (board / "sitecustomize.py").write_text(WATCHING)
        for number, (name, way) in enumerate(ways.items()):
            folder = board / str(number)
            folder.mkdir()
            base = next(iter(ran.values()), None)
            found = ran[name] = run(way, folder, len(base.placed) // 2 if base else 0)
            base = base or found
            is_same = (found.records, found.files) == (base.records, base.files)
            twice = sum(count - 1 for count in found.placed.values())
            extra = (found.cpu - base.cpu) / len(found.placed)
            # Nobody waits for the workers of Ray, so that their time is not seen.
            cpu = (
                ["-", "-"] if ["--ray"] in way.commands or way.nodes else [f"{found.cpu:.1f}", f"{1000 * extra:.0f} ms"]
            )
            rows.append([name, f"{found.wall:.1f}", *cpu, twice, is_same])
            print(
                tabulate(rows, ["", "wall s", "CPU s", "CPU per value", "twice", "same bytes"], disable_numparse=True)
            )
            print(f"{len(found.placed)} values and records\n", flush=True)


if __name__ == "__main__":
    main()
