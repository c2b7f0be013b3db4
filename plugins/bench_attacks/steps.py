"""Ways to move images along a gradient, one object for each walk."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

import bench

# Move images: (B, C, H, W), their gradient (B, C, H, W), their scores (B,) -> (B, C, H, W). Every walk makes a new one.
Step = Callable[[Tensor, Tensor, Tensor], Tensor]


def make(optimiser: str, ball: bench.Ball, length: float, origin: Tensor, steps: int) -> Step:
    """Make the steps of one walk around clean images; `length` is a share of eps, which "adaptive" does not need."""
    if optimiser == "adaptive":
        return Adaptive(ball, origin, steps)
    return {"sign": steepest, "adam": adam}[optimiser](ball, length)


def steepest(ball: bench.Ball, length: float) -> Step:
    """Take steepest steps in the norm of the ball; `length` is a share of eps."""
    return lambda moved, gradient, score: moved - length * ball.reach * ball.steepest(gradient)


def adam(ball: bench.Ball, length: float) -> Step:
    """Take steps of Adam (Kingma and Ba, ICLR 2015); the rate, `length`, is a share of eps."""
    state: list[torch.optim.Adam] = []

    def step(moved: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        if not state:
            state.append(torch.optim.Adam([moved.clone()], lr=length * ball.reach))
        (leaf,) = state[0].param_groups[0]["params"]
        leaf.copy_(moved)
        leaf.grad = gradient
        state[0].step()
        return leaf.clone()

    return step


def momentum(ball: bench.Ball, steps: int, length: float = 1.0, kept: float = 0.75) -> Step:
    """Take steepest steps along a sum of gradients, each divided by its l1 norm (Dong et al., CVPR 2018).

    `length`, a share of eps, falls to zero over `steps` as half a cosine does. `kept` is the share of the sum that
    stays at every step.
    """
    taken = 0
    summed: Tensor | None = None

    def step(moved: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        nonlocal taken, summed
        size = gradient.abs().sum((1, 2, 3), keepdim=True)
        unit = gradient / torch.where(size > 0, size, torch.ones_like(size))
        summed = unit if summed is None else kept * summed + unit
        now = length * ball.reach * (1 + math.cos(math.pi * taken / steps)) / 2
        taken += 1
        return moved - now * ball.steepest(summed)

    return step


class Adaptive:
    """Steps of Auto-PGD (Croce and Hein, ICML 2020, Alg. 1), for each image on its own.

    The first is 2 eps long. At checkpoints, which come closer to each other, an image whose score fell in fewer than
    three quarters of the steps, or whose best score and step have not changed, halves its step and starts again from
    its best point. A quarter of the last move is kept.
    """

    def __init__(self, ball: bench.Ball, origin: Tensor, steps: int) -> None:
        self.ball, self.origin = ball, origin
        self.checkpoints = checkpoints(steps)
        self.taken = self.since = 0
        self.length = torch.full((len(origin), 1, 1, 1), 2 * ball.reach, dtype=origin.dtype, device=origin.device)
        self.falls = torch.zeros(len(origin), device=origin.device)
        self.halved = torch.ones(len(origin), dtype=torch.bool, device=origin.device)  # at the last checkpoint

    def __call__(self, moved: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        if not self.taken:
            self.best, self.slope, self.least, self.marked = moved, gradient, score, score
            self.before, self.last = moved, score
        self.falls += score < self.last
        better = score < self.least
        self.least, self.last = torch.where(better, score, self.least), score
        rows = better[:, None, None, None]
        self.best, self.slope = torch.where(rows, moved, self.best), torch.where(rows, gradient, self.slope)
        if self.taken in self.checkpoints:
            stalls = self.falls < 0.75 * (self.taken - self.since)
            stalls |= self.halved.logical_not() & (self.least >= self.marked)
            rows = stalls[:, None, None, None]
            self.length = torch.where(rows, self.length / 2, self.length)
            moved, gradient = torch.where(rows, self.best, moved), torch.where(rows, self.slope, gradient)
            self.before = torch.where(rows, moved, self.before)
            self.halved, self.marked, self.since = stalls, self.least, self.taken
            self.falls.zero_()
        ahead = self.ball.project(moved - self.length * self.ball.steepest(gradient), self.origin)
        share = 0.75 if self.taken else 1.0
        moved, self.before = moved + share * (ahead - moved) + (1 - share) * (moved - self.before), moved
        self.taken += 1
        return moved


def checkpoints(steps: int) -> list[int]:
    """The steps at which Auto-PGD looks at its progress: after 22% of all, then after shares that shrink to 6%."""
    places, gap = [0.22], 0.22
    while places[-1] < 1:
        gap = max(gap - 0.03, 0.06)
        places.append(places[-1] + gap)
    return [math.ceil(round(place * steps, 6)) for place in places if place < 1]
