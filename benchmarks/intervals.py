"""How often a nominal 95% interval holds the truth: of a record, of a row over seeds, of a paired difference.

python benchmarks/intervals.py [TRIALS]

Scores are simulated: a truth, a deviation for each seed, one for each image that all seeds share, and the rest. The
interval of a record is about the images; the truth that it should hold is the mean over all images.
"""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
from tabulate import tabulate

from bench.boards.record import Record, interval
from bench.boards.statistics import difference, entry

FORMS = {
    "normal": lambda rng, size: rng.normal(0.5, 0.2, size),
    "skewed": lambda rng, size: rng.beta(0.8, 6, size),
    "zero or one": lambda rng, size: (rng.random(size) < 0.8).astype(float),
    "many ties": lambda rng, size: rng.binomial(20, 0.3, size) / 20,
}
MEANS = {"normal": 0.5, "skewed": 0.8 / 6.8, "zero or one": 0.8, "many ties": 0.3}


def record(key: str, seed: int, value: float, defense: str) -> Record:
    blank = {field.name: None for field in dataclasses.fields(Record)}
    return Record(
        **{**blank, "key": key, "value": value, "axes": {"seed": str(seed), "defense": defense}, "better": "higher"}
    )


def rows(trials: int) -> list[list[str]]:
    found = []
    for name, draw in FORMS.items():
        for count in (50, 200):
            rng = np.random.default_rng(0)
            held = 0
            for trial in range(trials):
                low, high = interval(draw(rng, count), f"{trial:016x}")
                held += low <= MEANS[name] <= high
            found.append(["record", name, f"{count} images", f"{held / trials:.3f}"])
    for seeds, count in ((3, 100), (8, 100)):
        rng = np.random.default_rng(1)
        held = 0
        for trial in range(trials):
            values = {f"{trial}/{s}": rng.normal(0.5 + rng.normal(0, 0.03), 0.2, count).tolist() for s in range(seeds)}
            row = entry([record(k, s, float(np.mean(v)), "a") for s, (k, v) in enumerate(values.items())], values)
            held += row.ci95[0] <= 0.5 <= row.ci95[1]
        found.append(["row", "normal", f"{seeds} seeds of {count} images", f"{held / trials:.3f}"])
    rng = np.random.default_rng(2)
    held = 0
    for trial in range(trials):
        image = rng.normal(0.5, 0.2, 100)
        pair = []
        for defense, shift in (("a", 0.05), ("b", 0.0)):
            values = {f"{trial}{defense}": (image + shift + rng.normal(0, 0.05, 100)).tolist()}
            ((key, each),) = values.items()
            pair.append(
                entry([dataclasses.replace(record(key, 0, float(np.mean(each)), defense), ci95=(0, 1))], values)
            )
        beside = difference(*pair)
        held += beside.ci95[0] <= 0.05 <= beside.ci95[1]
    found.append(["difference", "normal", "100 images", f"{held / trials:.3f}"])
    return found


if __name__ == "__main__":
    print(
        tabulate(rows(int(sys.argv[1]) if len(sys.argv) > 1 else 1000), ["interval", "scores", "of", "holds the truth"])
    )
