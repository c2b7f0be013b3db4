"""Follow predictions while pixels come or go in the order of a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import bench
from bench.gradients import target_logits
from bench.maps import ranks

Fill = Literal["mean", "black", "blur"]
FILLS = "fill for missing pixels: the mean colour, black, or the image blurred (11 pixels, sigma 5)"


@dataclass(frozen=True)
class Curve(bench.Metric):
    """A metric whose levels are shares of the pixels."""

    range = (0.0, 1.0)
    examples = ("", "steps=5,full=false,fill=black", "parts=elements,fill=blur,steps=4")
    steps: int = bench.param(20, "levels between no pixel and all of them", low=1)
    full: bool = bench.param(True, "whether the level of all pixels counts as well")
    fill: Fill = bench.param("mean", FILLS)
    parts: Literal["pixels", "elements"] = bench.param(
        "pixels", "what comes or goes: pixels in the order of the map, or elements in the order of the attribution"
    )

    def curve(
        self, network: nn.Module, images: Tensor, targets: Tensor, attributions: Tensor, away: bool, least: bool = False
    ) -> bench.Levels:
        """Return the curve while the most important pixels come, or go `away`.

        With `least`, the least important ones go, which leaves the others.
        """
        shares = levels(self.steps, self.full)
        taken = [1 - share for share in shares] if least else shares
        sizes = attributions.abs()
        sizes = sizes.sum(1, keepdim=True) if self.parts == "pixels" else sizes.expand_as(images)
        return bench.Levels(curve(network, images, targets, sizes, taken, away, self.fill), name_levels(shares))


def levels(steps: int, full: bool) -> list[float]:
    """List the shares of the pixels: 0, 1 / steps, ..., and 1 if `full`."""
    return [i / steps for i in range(steps + full)]


def curve(
    network: nn.Module, images: Tensor, targets: Tensor, sizes: Tensor, shares: list[float], away: bool, fill: str
) -> Tensor:
    """Return the probability of each target with only a share of an image's pixels, those of the largest sizes, or
    with these taken `away`: (N, C, H, W), (N,), (N, 1, H, W) -> (N, L); NaN where all sizes are zero.

    Pixels carry all channels; sizes (N, C, H, W) treat each element alone. Of equal sizes, the first in reading order
    comes first.
    """
    rank = ranks(sizes)
    count = rank[0].numel()

    def scores(images: Tensor, targets: Tensor, rank: Tensor) -> Tensor:
        empty, values = fill_in(network, images, fill), []
        for share in shares:
            first = rank < int(share * count + 1e-9)
            values.append(probability(network, torch.where(first ^ away, images, empty), targets))
        return torch.stack(values, 1)

    with torch.no_grad():
        values = bench.chunked(
            scores, images, targets, rank, seed=0, name="curve", indices=torch.arange(len(images))
        ).double()
    return torch.where(sizes.flatten(1).any(1)[:, None], values, torch.nan)


def probability(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return the softmax probability of each target: (N, C, H, W), (N,) -> (N,)."""
    return target_logits(bench.check_logits(network(images), images).softmax(1), images, targets)


def fill_in(network: nn.Module, images: Tensor, fill: str) -> Tensor:
    """Return the fill for missing pixels, to broadcast against the images."""
    if fill == "blur":
        from torchvision.transforms.functional import gaussian_blur  # slow to import

        sides = [min(11, side - 1 + side % 2) for side in images.shape[:1:-1]]
        return gaussian_blur(images, sides, [5.0, 5.0])
    return bench.normalisation(network)[0].to(images) if fill == "mean" else images.new_zeros(1, 1, 1)


def name_levels(shares: list[float]) -> tuple[str, ...]:
    """Name the levels, in percent of the pixels."""
    return tuple(f"{100 * share:g}%" for share in shares)
