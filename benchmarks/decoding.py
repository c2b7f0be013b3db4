"""What decoding a folder of 224-pixel JPEGs costs, beside torchvision's ImageFolder in torch's DataLoader.

python benchmarks/decoding.py [--images N] [--batch N] [--workers N,N] [--rounds N]

Both give batches of float images to a loop that does nothing else, in the same random order, with the same number of
workers: threads here, processes there, and with 0 the loop itself. A DataLoader's processes are started before the
clock. Rounds alternate; the medians are printed, with the largest number of bytes that batches decoded ahead can hold.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

import bench
from bench.engine.training import AHEAD, Batches

SIDE = 224


def make_folder(place: Path, count: int) -> None:
    """JPEGs with the detail of photographs: smooth shapes and some noise."""
    generator = np.random.default_rng(0)
    for row in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (14, 14, 3), dtype=np.uint8)).resize((SIDE, SIDE))
        noisy = np.clip(np.asarray(coarse) + generator.normal(0, 12, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        file = place / f"class{row % 10}" / f"{row}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(file, quality=90)


def count_rate(batches: Iterator[torch.Tensor], count: int) -> float:
    """Images a second, from the first batch's end to the last one's."""
    first = len(next(batches))
    start = time.perf_counter()
    seen = sum(len(batch) for batch in batches)
    assert first + seen == count
    return seen / (time.perf_counter() - start)


def ours(place: Path, order: torch.Tensor, batch: int, workers: int) -> Iterator[torch.Tensor]:
    torch.set_num_threads(max(1, workers))
    data = bench.component("dataset", f"folder:path={place}").load("test")
    batches = Batches(data, order, torch.device("cpu"), "none", resident=0)
    parts = order.split(batch)
    for rows, columns in batches.read_ahead(parts) if workers else ((rows, None) for rows in parts):
        yield batches.at(rows, columns).images


def theirs(place: Path, order: torch.Tensor, batch: int, workers: int) -> Iterator[torch.Tensor]:
    torch.set_num_threads(1)
    dataset = ImageFolder(str(place), transforms.ToTensor())
    loader = DataLoader(dataset, batch, sampler=order.tolist(), num_workers=workers)
    return (images for images, _ in loader)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", default="0,1,2")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make_folder(Path(folder), options.images)
        order = torch.randperm(options.images, generator=torch.Generator().manual_seed(0))
        for workers in map(int, options.workers.split(",")):
            rates: dict[Callable[..., Iterator[torch.Tensor]], list[float]] = {ours: [], theirs: []}
            for round_, make in itertools.product(range(options.rounds + 1), rates):
                rate = count_rate(make(Path(folder), order, options.batch, workers), options.images)
                rates[make] += [rate] if round_ else []  # the first one reads the files from the disk
            mine, other = (statistics.median(each) for each in rates.values())
            ahead = (AHEAD + 1 if workers else 1) * options.batch * 3 * SIDE * SIDE * 4
            rows.append([workers, f"{mine:.0f}", f"{other:.0f}", f"{mine / other:.2f}", f"{ahead / 1e6:.0f} MB"])
    print(tabulate(rows, headers=["workers", "images/s", "of a DataLoader", "ratio", "held ahead"]))


if __name__ == "__main__":
    main()
