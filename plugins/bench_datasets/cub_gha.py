"""Load birds, and where people looked at them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

import bench
from bench.files import read_file
from bench_datasets.named import Photographs, Splits, place_of
from bench_datasets.splits import Files, contents, names_of

BIRDS, GAZE = "CUB_200_2011", "CUB_GHA"
LIST = 10**8  # bytes of a list
HOWTO = (
    f"what CUB_200_2011.tgz unpacks to ({BIRDS}/images.txt and the rest) and the heatmaps of CUB-GHA ({GAZE}/ID.jpg, "
    "by the image's number)"
)


@dataclass(frozen=True)
class CUBGHA(Photographs):
    """Load photographs of 200 kinds of birds (Wah et al., 2011) with maps of where people looked (Rong et al., BMVC
    2021). Of the 11,788 photographs, those with a map are kept: 5,990 for training and 5,790 for testing.

    They come from the folder cub_gha of the data folder, which contains CUB_200_2011 and CUB_GHA. A share of train is
    held out for validation. Maps are scaled and cut like their images.
    """

    name = "cub_gha"
    provides: ClassVar[frozenset[str]] = frozenset({"labels", "gaze"})
    paper = bench.Paper(
        "Human Attention in Fine-grained Classification",
        "Yao Rong and Wenjia Xu and Zeynep Akata and Enkelejda Kasneci",
        "BMVC",
        2021,
        "https://arxiv.org/abs/2111.01628",
    )
    howto = HOWTO
    size = 448
    resize = 600

    def splits(self) -> Splits:
        place = place_of(self.name, self.howto)
        content = bench.checksum(place)
        return *birds(place, content), content[:16], ""


@functools.cache
def birds(place: Path, content: str) -> tuple[dict[str, Files], tuple[str, ...]]:
    """Find the splits and the classes. `content` is a checksum of the folder, so a change of it is noticed."""
    images = read_list(place, "images.txt")
    labels, training = (read_list(place, name) for name in ("image_class_labels.txt", "train_test_split.txt"))
    names = read_list(place, "classes.txt")
    splits = {}
    for split, mark in (("train", "1"), ("test", "0")):
        rows = [i for i in images if training.get(i) == mark and (place / GAZE / f"{i}.jpg").is_file()]
        files = [place / BIRDS / "images" / images[i] for i in rows]
        maps = [place / GAZE / f"{i}.jpg" for i in rows]
        splits[split] = Files(
            len(rows),
            torch.tensor([int(labels[i]) - 1 for i in rows], dtype=torch.int64),
            contents(files),
            None,
            names_of(files),
            contents(maps),
        )
    if not any(files.count for files in splits.values()):
        raise bench.EnvironmentProblem(f"dataset cub_gha: {place / GAZE} has no map of any image; put {HOWTO} there")
    return splits, tuple(names.values())


def read_list(place: Path, name: str) -> dict[str, str]:
    """Read one of the set's lists, whose lines are a number and a text."""
    try:
        lines = read_file(place / BIRDS / name, LIST).decode().splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise bench.EnvironmentProblem(
            f"dataset cub_gha: {place / BIRDS / name} cannot be read ({reason}); put {HOWTO} there"
        ) from None
    return dict(line.split(" ", 1) for line in lines if " " in line)
