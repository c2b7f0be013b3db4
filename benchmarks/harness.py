"""What the harness adds to a bare script that makes the same passes: train, explain, attack, explain again, score.

python benchmarks/harness.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from interleaved import interleaved, report

import bench
from bench.engine import catalog as catalogs
from bench.engine.cells import list_cells
from bench.engine.runner import run_cells
from bench.engine.selection import select
from bench.engine.store import Store

LIMIT, BATCH, SAMPLES, STEPS = 2048, 16, 85, 50
EPS, STEP, K = 8 / 255, 0.1, 20


def harness() -> None:
    catalog = catalogs.load()
    asked = select(
        catalog,
        {
            "defense": ["ce"],
            "schedule": [f"quick:epochs=1,batch={BATCH},limit={LIMIT}"],
            "attack": [f"topk:steps={STEPS},step={STEP},k={K}"],
            "samples": [SAMPLES],
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_cells(
            list_cells(catalog, asked.cases, asked.metrics), catalog, Store(Path(folder), print), torch.device("cpu")
        )
    assert not outcome.failures


def bare() -> None:
    data, test = (bench.component("dataset", "shapes").load(split) for split in ("train", "test"))
    images, labels = data.images[torch.arange(LIMIT)], data.labels[:LIMIT]
    network = bench.component("model", "lenet").build((3, 32, 32), 10)
    optimiser = torch.optim.Adam(network.parameters(), 5e-4)
    for rows in torch.randperm(LIMIT).split(BATCH):
        optimiser.zero_grad()
        F.cross_entropy(network(images[rows]), labels[rows]).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimiser.step()
    network.eval().requires_grad_(False)
    clean = test.images[torch.arange(SAMPLES)]

    def gradients(images: torch.Tensor, targets: torch.Tensor, graph: bool) -> tuple[torch.Tensor, torch.Tensor]:
        images = images if images.requires_grad else images.detach().requires_grad_()
        logits = network(images)
        (found,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), images, create_graph=graph)
        maps = found.abs().sum(1)
        return maps / maps.sum((1, 2), keepdim=True), logits

    with torch.no_grad():
        targets = network(clean).argmax(1)
    maps, _ = gradients(clean, targets, False)  # the stored map
    maps, logits = gradients(clean, targets, False)  # the attack's own
    top = torch.zeros(SAMPLES, 1024).scatter(1, maps.flatten(1).topk(K).indices, 1.0).view_as(maps)
    moved, best, least = clean, clean, (maps * top).sum((1, 2))

    def look(moved, maps, logits, best, least):
        share = (maps * top).sum((1, 2)).detach()
        better = (logits.argmax(1) == targets) & (share < least)
        return torch.where(better[:, None, None, None], moved.detach(), best), torch.where(better, share, least)

    for _ in range(STEPS):
        moved = moved.detach().requires_grad_()
        maps, logits = gradients(moved, targets, True)
        (slope,) = torch.autograd.grad((maps * top).sum(), moved)
        best, least = look(moved, maps, logits, best, least)
        moved = (moved.detach() - STEP * EPS * slope.sign()).clamp(clean - EPS, clean + EPS).clamp(0, 1)
    best, least = look(moved, *gradients(moved, targets, False), best, least)
    for _ in range(2):  # the objective before and after
        gradients(best, targets, False)
    with torch.no_grad():
        network(best)
    gradients(best, targets, False)


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(report(interleaved({"bare": bare, "harness": harness}), "bare"))
