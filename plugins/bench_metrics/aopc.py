"""Remove the most relevant regions first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench import noise
from bench.maps import ranks
from bench_metrics.curves import FILLS, fill_in
from bench_metrics.squares import follow


@dataclass(frozen=True)
class AOPC(bench.Metric):
    """Replace the most relevant squares, and average the fall of the probability (area over the perturbation curve,
    most relevant first; Samek et al., IEEE TNNLS 2017, eq. 12). The probability is that of the class explained, and the
    average is over k = 0, ..., steps replaced squares.

    A square's relevance is the sum of the map inside it. Squares at the right and lower border may be smaller. Of equal
    squares, the first in reading order goes first. "samek2017" has their squares of 9 pixels and 100 steps, filled with
    uniform noise, which needs images of a few hundred pixels. Gong et al. (CVPR 2024) report the fall relative to that
    of another map, at 20, 50 and 100 steps. Undefined where a map is zero.
    """

    name = "aopc"
    range = (-1.0, 1.0)
    help = "fall of the class's probability while the most relevant squares go first, mean over steps"
    paper = bench.Paper(
        "Evaluating the Visualization of What a Deep Neural Network Has Learned",
        "Wojciech Samek and Alexander Binder and Grégoire Montavon and Sebastian Lapuschkin and Klaus-Robert Müller",
        "IEEE Transactions on Neural Networks and Learning Systems",
        2017,
        "https://doi.org/10.1109/TNNLS.2016.2599820",
    )
    presets: ClassVar[dict[str, str]] = {"samek2017": "region=9,steps=100,fill=noise"}
    examples = ("", "region=3,steps=5,fill=noise")
    steps: int = bench.param(20, "squares to replace in total", low=1)
    region: int = bench.param(4, "side of a square, in pixels", low=1)
    fill: Literal["mean", "black", "blur", "noise"] = bench.param("mean", f"{FILLS}, or uniform noise")

    def refuse(self, case: bench.Case) -> str | None:
        return self._find_misfit(*case.dataset.form[0][1:])

    def _find_misfit(self, height: int, width: int) -> str | None:
        count = math.ceil(height / self.region) * math.ceil(width / self.region)
        if self.steps > count:
            return (
                f"images of {height} x {width} pixels have {count} squares of {self.region}; ask for {count} steps or "
                "fewer, or a smaller region"
            )
        return None

    def __call__(
        self, network: nn.Module, images: Tensor, targets: Tensor, clean_maps: Tensor, seed: int, test_data: bench.Data
    ) -> bench.Levels:
        if why := self._find_misfit(*images.shape[2:]):
            raise bench.BadValue(f"metric {self}: {why}")
        maps = clean_maps.double()[:, None]
        rank = ranks(F.avg_pool2d(maps, self.region, ceil_mode=True, divisor_override=1))

        def drops(images: Tensor, targets: Tensor, rank: Tensor) -> Tensor:
            empty = noise.uniform(images, 0, 1) if self.fill == "noise" else fill_in(network, images, self.fill)
            scores = follow(network, images, targets, rank, self.region, self.steps, empty)
            return scores[:, :1] - scores

        values = bench.chunked(drops, images, targets, rank, seed=seed, name="aopc", indices=test_data.rows).double()
        return bench.Levels(
            torch.where(clean_maps.flatten(1).any(1)[:, None], values, torch.nan),
            tuple(str(k) for k in range(self.steps + 1)),
        )
