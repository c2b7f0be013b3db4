"""Choose among candidate images by another attack's objective, without a gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

import bench


class BestCandidate:
    """The best image so far by an attack's objective on the real network, among those that keep the prediction.

    The first candidate is the clean image. `images` holds the best ones, `least` their scores.
    """

    def __init__(self, victim: bench.Victim, images: Tensor, targets: Tensor, like: bench.Attack) -> None:
        self.victim = victim
        with torch.no_grad():
            loss = like.make_loss(victim, images, targets)
            if loss is None:
                raise bench.BadValue(f"attack {like} has no objective to choose by; name another with like=(...)")
            self.loss = loss
            self.images, self.least = images, loss(images)
            self.prediction = victim.logits(images).argmax(1)

    def offer(self, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Take over the candidates that score lower: (B, C, H, W). Returns all scores, and who keeps the prediction."""
        with torch.no_grad():
            score, kept = self.loss(candidates), self.victim.logits(candidates).argmax(1) == self.prediction
        better = kept & (score < self.least)
        self.images = torch.where(better[:, None, None, None], candidates, self.images)
        self.least = torch.where(better, score, self.least)
        return score, kept


def choose(
    victim: bench.Victim, images: Tensor, targets: Tensor, like: bench.Attack, candidates: Iterable[Tensor]
) -> Tensor:
    """Return each image's best candidate; every candidate is a batch (B, C, H, W)."""
    best = BestCandidate(victim, images, targets, like)
    for batch in candidates:
        best.offer(batch)
    return best.images


def deviation(ball: bench.Ball, share: float, images: Tensor) -> float:
    """The standard deviation of Gaussian noise that is as long as a share of eps in the norm of the ball.

    In linf and l0, that is the deviation of an element.
    """
    return share * ball.reach / (math.sqrt(images[0].numel()) if ball.norm == "l2" else 1.0)
