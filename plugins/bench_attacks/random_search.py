"""Search at random, without a gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import bench
from bench import noise
from bench_attacks.candidates import BestCandidate
from bench_attacks.topk import TopK


@dataclass(frozen=True)
class RandomSearch(bench.Attack):
    """Search by queries alone, against any explainer. Each query moves a random square of the best image so far to a
    random corner of the budget, and keeps the move where it lowers another attack's objective and keeps the prediction.

    Follows the Square attack on predictions (Andriushchenko et al., ECCV 2020): the side of the squares shrinks from
    half the image to one pixel, and each channel of a square gets one sign. In an l2 ball, the change is scaled back
    into the ball. Do not trust a white-box attack that this one beats.
    """

    name = "random_search"
    paper = bench.Paper(
        "Square Attack: a query-efficient black-box adversarial attack via random search",
        "Maksym Andriushchenko and Francesco Croce and Nicolas Flammarion and Matthias Hein",
        "ECCV",
        2020,
        "https://arxiv.org/abs/1912.00049",
    )
    examples = ("queries=4,like=(topk:k=5)", "queries=2,restarts=2,like=(topk:k=5)")
    queries: int = bench.param(200, "images tried from each start", low=1)
    restarts: int = bench.param(1, "searches, each from the clean image", low=1)
    like: bench.Attack = bench.param(TopK(), "the attack whose objective is lowered")

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        best = self._search(victim, images, targets, ball)
        for _ in range(self.restarts - 1):
            other = self._search(victim, images, targets, ball)
            better = other.least < best.least
            best.images = torch.where(better[:, None, None, None], other.images, best.images)
            best.least = torch.where(better, other.least, best.least)
        return best.images

    def _search(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> BestCandidate:
        best = BestCandidate(victim, images, targets, self.like)
        for query in range(self.queries):
            side = max(1, round(min(images.shape[2:]) * 0.5 * (1 - query / self.queries)))
            moved = torch.where(squares(images, side), images + ball.reach * corners(images), best.images)
            best.offer(ball.project(moved, images))
        return best


def squares(images: Tensor, side: int) -> Tensor:
    """Mark a square of pixels at a random place in each image: (B, 1, H, W) bool."""
    place = noise.uniform(images.new_empty(len(images), 2), 0, 1)
    inside = []
    for axis, size in enumerate(images.shape[2:]):
        first = (place[:, axis, None] * (size - side + 1)).long()
        index = torch.arange(size, device=images.device)
        inside.append((index >= first) & (index < first + side))
    return inside[0][:, None, :, None] & inside[1][:, None, None, :]


def corners(images: Tensor) -> Tensor:
    """Draw a sign for each channel of each image: (B, C, 1, 1)."""
    return noise.signs(images[:, :, :1, :1])
