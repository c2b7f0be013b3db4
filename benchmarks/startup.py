"""Seconds of `bench --help`, and of a run that finds everything in the store, as whole processes.

python benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

from interleaved import interleaved, report

TINY = ["--schedule", "quick:epochs=1,limit=32", "--attack", "topk:steps=1", "--samples", "10"]


def process(*words: str):
    return lambda: subprocess.run([sys.executable, "-m", "bench.cli", *words], check=True, capture_output=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        work = {
            "python": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
            "bench --help": process("--help"),
            "import torch": lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True),
            "bench run, all stored": process("run", "--defense", "l2", *TINY, "--store", folder),
        }
        print(report(interleaved(work), "python"))
