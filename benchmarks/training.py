"""What a training step of each defense costs beside one of ce: LeNet with softplus, batches of 128, two threads.

python benchmarks/training.py [DEFENSE ...]

Of atex it is the third step, the student's.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from interleaved import interleaved, report

import bench
from bench.components.data import Data
from bench.components.kinds import Schedule
from bench.engine.store import Store
from bench.engine.training import Fit

DEFENSES = (
    "l2",
    "cosd",
    "l2_cosd",
    "hessian",
    "ssr",
    "atex",
    "norm_at",
    "norm_at:scheme=iterative",
    "adversarial",
    "trades",
    "iga",
)
STEPS = 2


def trainings(schedule: Schedule, folder: str) -> dict[str, object]:
    data = bench.component("dataset", "shapes").load("train")
    data = data.at(torch.arange(128 * STEPS))
    data = Data(data.images, data.labels, data.classes)
    model = bench.component("model", "lenet")
    teacher = model.build(data.shape, len(data.classes)).eval().requires_grad_(False)
    # Maps of the teacher are the second step.
    type(bench.component("defense", "atex"))._maps = lambda self, teacher, fit: (
        torch.randn_like(data.images),
        torch.randn(len(data), len(data.classes)),
    )

    def work(name: str):
        defense = bench.component("defense", name)

        def train() -> None:
            with Store(Path(folder), print).unfinished(name.replace(":", "_")) as unfinished:
                fit = Fit(data, model, schedule, 0, torch.device("cpu"), unfinished, [], lambda other: (teacher, []))
                defense.train(fit)
                unfinished.discard()

        return train

    return {name: work(name) for name in ("ce", *(sys.argv[1:] or DEFENSES))}


if __name__ == "__main__":
    torch.set_num_threads(2)
    schedule = bench.component("schedule", f"quick:epochs=1,batch=128,limit={128 * STEPS}")
    with tempfile.TemporaryDirectory() as folder:
        print(report(interleaved(trainings(schedule, folder)), "ce"))
