"""Predictions while pixels come or go in the order of a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import bench


@dataclass(frozen=True)
class Curve(bench.Metric):
    """A metric whose levels are shares of the pixels."""

    examples = ("", "steps=5,full=false,fill=black")
    steps: int = bench.param(20, "levels between no pixel and all of them", low=1)
    full: bool = bench.param(True, "the level of all pixels counts as well")
    fill: Literal["mean", "black"] = bench.param(
        "mean", "what stands for pixels that are not there: the mean colour, or black"
    )

    def curve(
        self, network: nn.Module, images: Tensor, targets: Tensor, maps: Tensor, away: bool, least: bool = False
    ) -> bench.Levels:
        """The curve of the most important pixels as they come, or go `away`; of the `least` important ones as they go,
        which is that of the others as they stay."""
        shares = levels(self.steps, self.full)
        taken = [1 - share for share in shares] if least else shares
        return bench.Levels(curve(network, images, targets, maps, taken, away, self.fill), named(shares))


def levels(steps: int, full: bool) -> list[float]:
    """Shares of the pixels: 0, 1 / steps, ..., and 1 where that is asked for too."""
    return [i / steps for i in range(steps + full)]


def curve(
    network: nn.Module, images: Tensor, targets: Tensor, maps: Tensor, shares: list[float], away: bool, fill: str
) -> Tensor:
    """Probability of each target when a share of an image's pixels, those of the largest values in its map, is all that
    is there, or is taken `away`: (N, C, H, W), (N,), (N, H, W) -> (N, L); NaN where a map is zero.

    All channels of a pixel together; of equal pixels the first in reading order comes first.
    """
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1], device=maps.device).expand_as(order))
    empty = bench.normalisation(network)[0].to(images) if fill == "mean" else images.new_zeros(1, 1, 1)

    def scores(images: Tensor, targets: Tensor, rank: Tensor) -> Tensor:
        found = []
        for share in shares:
            first = (rank < int(share * rank.shape[1] + 1e-9)).view(len(images), 1, *images.shape[2:])
            shown = torch.where(first ^ away, images, empty)
            found.append(network(shown).softmax(1).gather(1, targets[:, None])[:, 0])
        return torch.stack(found, 1)

    with torch.no_grad():
        found = bench.chunked(
            scores, images, targets, rank, seed=0, name="curve", indices=torch.arange(len(images))
        ).double()
    return torch.where(maps.flatten(1).any(1)[:, None], found, torch.nan)


def named(shares: list[float]) -> tuple[str, ...]:
    """Names of levels, in percent of the pixels."""
    return tuple(f"{100 * share:g}%" for share in shares)
