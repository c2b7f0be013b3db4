"""What attacks lower, as functions of maps; everything fixed comes from the clean maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from bench.maps import ranks, top_pixels

K = 20  # the pixels of `topk_overlap`
Against = Literal["topk_overlap", "spearman", "cosine", "center_shift"]
TIE = 1e-3  # the share of a pixel that all the mass counts
TINY = 1e-12  # the least share of a map's maximum that a logarithm sees


class Goal(ABC):
    """What has to go wrong with maps. `fixed` is what is known of the clean maps, a row for each image."""

    def __init__(self, fixed: Tensor) -> None:
        self.fixed = fixed

    def at(self, rows: Tensor) -> Goal:
        """The goal for some of the images."""
        return type(self)(self.fixed[rows])

    @abstractmethod
    def loss(self, maps: Tensor) -> Tensor:
        """The score that counts, which need not have a gradient: (B, H, W) -> (B,)."""

    @abstractmethod
    def follow(self, maps: Tensor) -> Tensor:
        """A score with a useful gradient, which falls as the loss does: (B, H, W) -> (B,)."""

    def is_open(self, loss: Tensor) -> Tensor:
        """Whether there is something left to gain: (B,) -> (B,) bool."""
        return torch.ones_like(loss, dtype=torch.bool)


class Overlap(Goal):
    """Push the k most important pixels of the clean maps out of the k most important ones.

    The loss is the share that stays; of two maps with one share, that with less mass in these pixels is ahead.
    """

    @classmethod
    def of(cls, maps: Tensor, k: int, about: str) -> Overlap:
        return cls(top_pixels(maps, k, about))

    @property
    def k(self) -> int:
        return int(self.fixed[0].sum())

    def loss(self, maps: Tensor) -> Tensor:
        stay = (log_ratios(maps, self.fixed) > 0).sum(1)
        return (stay + TIE * share(maps, self.fixed)) / self.k

    def follow(self, maps: Tensor) -> Tensor:
        return hinge(log_ratios(maps, self.fixed))

    def is_open(self, loss: Tensor) -> Tensor:
        return loss * self.k >= 1


class RankCorrelation(Goal):
    """Lower Spearman's correlation with the clean maps. The gradient is that of the correlation of logarithms."""

    @classmethod
    def of(cls, maps: Tensor) -> RankCorrelation:
        return cls(unit(ranks(maps).to(maps.dtype)))

    def loss(self, maps: Tensor) -> Tensor:
        return (unit(ranks(maps).to(maps.dtype)) * self.fixed).sum(1)

    def follow(self, maps: Tensor) -> Tensor:
        return -(unit(logarithms(maps)) * self.fixed).sum(1)


class Cosine(Goal):
    """Lower the cosine with the clean maps."""

    @classmethod
    def of(cls, maps: Tensor) -> Cosine:
        return cls(maps)

    def loss(self, maps: Tensor) -> Tensor:
        return torch.cosine_similarity(maps.flatten(1), self.fixed.flatten(1))

    follow = loss


class CenterShift(Goal):
    """Move the centre of mass away from that of the clean maps."""

    @classmethod
    def of(cls, maps: Tensor) -> CenterShift:
        return cls(center(maps))

    def loss(self, maps: Tensor) -> Tensor:
        return -(center(maps) - self.fixed).square().sum(1)

    follow = loss


def make_goal(against: str, maps: Tensor, about: str) -> Goal:
    """The goal that lowers a metric, on clean maps (B, H, W). `about` names the attack in messages."""
    if against == "spearman":
        return RankCorrelation.of(maps)
    if against == "cosine":
        return Cosine.of(maps)
    if against == "center_shift":
        return CenterShift.of(maps)
    return Overlap.of(maps, K, about)


def share(maps: Tensor, top: Tensor) -> Tensor:
    """The mass of each map in the marked pixels: (B, H, W), (B, H, W) -> (B,)."""
    return (maps * top).sum((1, 2))


def center(maps: Tensor) -> Tensor:
    """Row and column of the centre of mass of maps that sum to one: (B, H, W) -> (B, 2)."""
    rows, columns = (torch.arange(size, dtype=maps.dtype, device=maps.device) for size in maps.shape[1:])
    return torch.stack([(maps.sum(2) * rows).sum(1), (maps.sum(1) * columns).sum(1)], 1)


def logarithms(maps: Tensor) -> Tensor:
    """Logarithms of maps, each divided by its maximum: (B, H, W) -> (B, H * W)."""
    flat = maps.flatten(1)
    peak = flat.detach().amax(1, keepdim=True)
    return (flat / torch.where(peak > 0, peak, torch.ones_like(peak)) + TINY).log()


def log_ratios(maps: Tensor, top: Tensor) -> Tensor:
    """Compare the k marked pixels of each map with the others, in logarithms: (B, H, W), (B, H, W) -> (B, k).

    The first number is the log ratio of the weakest of the marked pixels to the strongest of the others, the next that
    of the second weakest to the second strongest, and so on. As many marked pixels stay among the k largest as numbers
    are positive, where of equal pixels the others go first.
    """
    logs, marked = logarithms(maps), top.flatten(1)
    k = int(marked[0].sum())
    weakest = logs[marked].view(len(logs), k).sort(1).values
    strongest = logs.masked_fill(marked, -torch.inf).topk(min(k, logs.shape[1] - k), 1).values
    return weakest[:, : strongest.shape[1]] - strongest


def hinge(ratios: Tensor, slack: float = 0.2) -> Tensor:
    """The mean of relu(ratio + slack): (B, k) -> (B,). It is zero once every ratio is below -slack."""
    return (ratios + slack).relu().mean(1)


def margins(logits: Tensor, prediction: Tensor) -> Tensor:
    """The prediction's logit less the largest of the others: (B, K), (B,) -> (B,)."""
    mine = prediction[:, None]
    return logits.gather(1, mine)[:, 0] - logits.scatter(1, mine, -torch.inf).amax(1)


def unit(values: Tensor) -> Tensor:
    """Values with mean zero and norm one, flat: (B, ...) -> (B, N). Constant ones become zero."""
    centred = values.flatten(1) - values.flatten(1).mean(1, keepdim=True)
    size = centred.norm(dim=1, keepdim=True)
    return centred / torch.where(size > 0, size, torch.ones_like(size))
