"""What a training step of each defense costs beside one of ce: LeNet with softplus, batches of 128, two threads.

python benchmarks/training.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NoReturn

import torch
from interleaved import interleaved, report

import bench
from bench.kinds import Data, Schedule
from bench.store import Store
from bench.training import Fit

DEFENSES = ("ce", "l2", "cosd", "l2_cosd")
STEPS = 4


def untaught(defense: bench.Defense) -> NoReturn:
    raise NotImplementedError(f"{defense} teaches nobody here")


def trainings(schedule: Schedule, folder: str) -> dict[str, object]:
    data = bench.component("dataset", "shapes").load("train")
    data = data.at(torch.arange(128 * STEPS))
    data = Data(data.images, data.labels, data.classes)
    model = bench.component("model", "lenet")

    def work(name: str):
        defense = bench.component("defense", name)

        def train() -> None:
            with Store(Path(folder), print).unfinished(name) as unfinished:
                defense.train(Fit(data, model, schedule, 0, torch.device("cpu"), unfinished, [], untaught))
                unfinished.discard()

        return train

    return {name: work(name) for name in DEFENSES}


if __name__ == "__main__":
    torch.set_num_threads(2)
    schedule = bench.component("schedule", f"quick:epochs=1,batch=128,limit={128 * STEPS}")
    with tempfile.TemporaryDirectory() as folder:
        print(report(interleaved(trainings(schedule, folder)), "ce"))
