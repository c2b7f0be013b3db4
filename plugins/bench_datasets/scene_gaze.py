"""Load scenes, and where people looked in them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

import bench
from bench.images import Frame, pixels
from bench_datasets.images import Decoded
from bench_datasets.named import place_of
from bench_datasets.tables import Table, parquet_files, rows_of, table

FOLDER = "scene-gaze"
COLUMNS = ("fix_x", "fix_y", "width", "height")
HOWTO = "the scenes with their fixations as test-*.parquet (columns image, fix_x, fix_y, width, height)"


@dataclass(frozen=True)
class SceneGaze(bench.Dataset):
    """Load photographs of scenes with the fixations of people who looked at them (404 of the 500 of Liang et al.,
    2015). The photographs come from the SUN database, and about twelve people looked at each freely. There is only a
    test split, without labels.

    They come from the folder scene-gaze of the data folder: Parquet files with the columns image, fix_x and fix_y
    (lists, in pixels of the stored image, from its upper left corner), width and height. A gaze map is the sum of a
    Gaussian for each fixation, brought to the image's frame, with a maximum of 1. Explain the prediction: --target
    predicted.
    """

    name = "scene_gaze"
    provides: ClassVar[frozenset[str]] = frozenset({"gaze"})
    examples = ()
    size: int = bench.param(224, "height and width, in pixels", low=1)
    resize: int = bench.param(256, "shorter side before the middle is cut, in pixels; 0 for the size itself", low=0)
    sigma: float = bench.param(0.04, "standard deviation of a fixation, as a share of the size", low=0.001)
    classes: int = bench.param(1000, "number of classes of the networks that explain it", low=2)

    @property
    def frame(self) -> Frame:
        return Frame(self.size, self.resize, "center")

    def find_problem(self) -> str | None:
        return self.frame.find_problem()

    def load(self, split: str) -> bench.Data:
        place = place_of(self.name, HOWTO, FOLDER)
        found, note = parquet_files(place)
        files = found.get("test", ())
        if not files:
            raise bench.EnvironmentProblem(f"dataset scene_gaze: {place} contains no test split; put {HOWTO} there")
        source, frame = table(files), self.frame
        images, classes = rows_of(source, str(place), "image", "", "", self.classes)
        missing = [column for column in COLUMNS if column not in source.columns]
        if missing:
            raise bench.EnvironmentProblem(
                f"dataset scene_gaze: {place} has no column {missing[0]!r}; put {HOWTO} there"
            )
        rows = torch.arange(images.count if split == "test" else 0)
        shape = (3, self.size, self.size)
        return bench.Data(
            Decoded(images.images, functools.partial(pixels, frame=frame), rows, shape, images.name),
            None,
            classes,
            gaze=GazeMaps(source, rows, frame, self.sigma * self.size),
            fingerprint="-".join(bench.checksum(file)[:16] for file in files),
            note=note,
        )


class GazeMaps:
    """Gaze maps (n, size, size) of some rows, computed on access."""

    def __init__(self, source: Table, rows: Tensor, frame: Frame, sigma: float) -> None:
        self.source, self.rows, self.frame, self.sigma = source, rows, frame, sigma
        self.shape = (len(rows), frame.size, frame.size)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Tensor) -> Tensor:
        maps = torch.zeros(len(rows), *self.shape[1:])
        for place, row in enumerate(self.rows[rows].tolist()):
            x, y, width, height = (self.source.cells(column, [row])[0] for column in COLUMNS)
            points = torch.tensor([x, y], dtype=torch.float64).T
            maps[place] = gaussians(self.frame.move_points(points, width, height), self.frame.size, self.sigma)
        return maps


def gaussians(points: Tensor, size: int, sigma: float) -> Tensor:
    """Add up a Gaussian for each point (x, y), scaled to a maximum of 1: (n, 2) -> (size, size); zero for none."""
    middle = torch.arange(size, dtype=torch.float64) + 0.5
    across, down = ((-((middle - points[:, i, None]) ** 2) / (2 * sigma**2)).exp() for i in (0, 1))
    total = down.T @ across
    return (total / total.max().clamp(min=torch.finfo(torch.float64).tiny)).float()
