"""Choosing among images by another attack's objective, without a gradient."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

import bench


class Choice:
    """The best image so far in an attack's objective on the real network, among those that keep the prediction; the
    clean image to begin with."""

    def __init__(self, victim: bench.Victim, images: Tensor, targets: Tensor, like: bench.Attack) -> None:
        self.victim = victim
        with torch.no_grad():
            found = like.objective(victim, images, targets)
            if found is None:
                raise bench.BadValue(f"attack {like} has no objective to choose by; name another with like=(...)")
            self.objective = found
            self.images, self.least = images, found(images)
            self.prediction = victim.logits(images).argmax(1)

    def offer(self, moved: Tensor) -> None:
        with torch.no_grad():
            score, kept = self.objective(moved), self.victim.logits(moved).argmax(1) == self.prediction
        better = kept & (score < self.least)
        self.images = torch.where(better[:, None, None, None], moved, self.images)
        self.least = torch.where(better, score, self.least)


def chosen(
    victim: bench.Victim, images: Tensor, targets: Tensor, like: bench.Attack, candidates: Iterable[Tensor]
) -> Tensor:
    """The best of some candidates, each (B, C, H, W), for every image on its own."""
    choice = Choice(victim, images, targets, like)
    for moved in candidates:
        choice.offer(moved)
    return choice.images
