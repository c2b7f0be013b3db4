"""What it costs to look, after every call of a component, whether it has changed what others share.

python benchmarks/guards.py
"""

from __future__ import annotations

import time

import torch
from harness import harness
from tabulate import tabulate

from bench.engine import shared


def main() -> None:
    spent: dict[str, list[float]] = {}

    def timed(owner: type, name: str) -> None:
        inner = getattr(owner, name)

        def call(*args: object, **named: object) -> object:
            start = time.perf_counter()
            try:
                return inner(*args, **named)
            finally:
                spent.setdefault(f"{owner.__name__}.{name}", []).append(time.perf_counter() - start)

        setattr(owner, name, call)

    for name in ("_compare", "remember", "audit"):
        timed(shared.Shared, name)
    start = time.perf_counter()
    harness()
    whole = time.perf_counter() - start
    rows = [[name, len(times), sum(times), f"{sum(times) / whole:.2%}"] for name, times in spent.items()]
    print(tabulate([*rows, ["the run", "", whole, ""]], headers=["work", "calls", "seconds", "share"], floatfmt=".3f"))


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
