"""Remove pixels without a trace of where they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

import bench
from bench import noise
from bench.maps import ranks
from bench_metrics.curves import levels, name_levels


@dataclass(frozen=True)
class ROAD(bench.Metric):
    """Remove the most important pixels, and score 1 where the class stays (remove and debias; Rong et al., ICML 2022).
    The class is the one explained, and levels lie between no pixel and all. With --target label this is accuracy, as
    theirs.

    A removed pixel becomes the weighted mean of its eight neighbours plus noise, all of them at once by a linear system
    (noisy linear imputation), so that the form of the hole tells little about the class. Direct neighbours count twice
    as much as diagonal ones. Numbers of pixels are rounded down. Of equal pixels, the first in reading order is the
    most important. With order=least, the least important ones go first, and higher is better. Undefined where a map is
    zero.
    """

    name = "road"
    range = (0.0, 1.0)
    grain = 1.0
    help = "share of images that keep the class while pixels are imputed from their neighbours, mean over levels"
    paper = bench.Paper(
        "A Consistent and Efficient Evaluation Strategy for Attribution Methods",
        "Yao Rong and Tobias Leemann and Vadim Borisov and Gjergji Kasneci and Enkelejda Kasneci",
        "ICML",
        2022,
        "https://arxiv.org/abs/2202.00449",
    )
    examples = ("", "steps=4,order=least")
    steps: int = bench.param(10, "parts of the pixels; one fewer levels lie between none and all", low=2)
    order: Literal["most", "least"] = bench.param("most", "pixels that go first, the most or the least important")
    noise: float = bench.param(0.01, "standard deviation of the noise on removed pixels, in pixel units", low=0)

    @property
    def better(self) -> Literal["higher", "lower"]:
        return "lower" if self.order == "most" else "higher"

    def __call__(
        self, network: nn.Module, images: Tensor, targets: Tensor, clean_maps: Tensor, seed: int, test_data: bench.Data
    ) -> bench.Levels:
        shares, pixels = levels(self.steps, False)[1:], clean_maps[0].numel()
        rank = ranks(clean_maps)
        rank = rank if self.order == "most" else pixels - 1 - rank

        def keep(images: Tensor, targets: Tensor, rank: Tensor) -> Tensor:
            hits = []
            for share in shares:
                gone = rank < int(share * pixels + 1e-9)
                filled = impute(images, gone) + self.noise * noise.normal(images) * gone[:, None]
                hits.append(bench.check_logits(network(filled), filled).argmax(1) == targets)
            return torch.stack(hits, 1).double()

        values = bench.chunked(keep, images, targets, rank, seed=seed, name="road", indices=test_data.rows)
        return bench.Levels(
            torch.where(clean_maps.flatten(1).any(1)[:, None], values, torch.nan), tuple(name_levels(shares))
        )


def impute(images: Tensor, gone: Tensor) -> Tensor:
    """Set pixels that are gone to the weighted mean of their neighbours: (B, C, H, W), (B, H, W) bool -> (B, C, H, W).

    At the border, the neighbours that there are share the weight. At least one pixel of each image must stay.
    """
    from scipy.sparse.linalg import splu  # slow to import

    excess = _build_excess(*images.shape[2:])
    values = images.flatten(2).mT.double().cpu().numpy().copy()
    for pixels, away in zip(values, gone.flatten(1).cpu().numpy(), strict=True):
        if away.any():
            rows = excess[away]
            pixels[away] = splu(rows[:, away].tocsc()).solve(-(rows[:, ~away] @ pixels[~away]))
    return torch.from_numpy(values).mT.reshape(images.shape).to(images)


def _build_excess(height: int, width: int) -> Any:
    """A sparse matrix (P, P) whose product with an image is what each pixel has above its neighbours, by weight."""
    from scipy.sparse import diags_array, eye_array, kron

    above, beside = (
        diags_array([np.ones(size - 1)] * 2, offsets=[-1, 1], shape=(size, size)) for size in (height, width)
    )
    direct = kron(above, eye_array(width)) + kron(eye_array(height), beside)
    weights = direct / 6 + kron(above, beside) / 12
    return (diags_array(weights.sum(1)) - weights).tocsr()
