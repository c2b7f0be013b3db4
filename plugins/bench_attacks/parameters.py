"""Look for the parameters of a transformation under which the maps of an image and of the changed one differ most."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

import bench
from bench.maps import reduce
from bench_attacks.objectives import Goal, make_goal

ENGSTROM2019 = bench.Paper(
    "Exploring the Landscape of Spatial Robustness",
    "Logan Engstrom and Brandon Tran and Dimitris Tsipras and Ludwig Schmidt and Aleksander Madry",
    "ICML",
    2019,
    "https://arxiv.org/abs/1712.02779",
)


class Seen(NamedTuple):
    """What parameters make of images: the changed images' maps and logits, the goal on the clean maps, and whether both
    maps are there."""

    maps: Tensor  # (B, H, W)
    logits: Tensor  # (B, K)
    goal: Goal
    defined: Tensor  # (B,) bool


class Worst:
    """Each image's worst parameters so far, (B, P), among those that keep the prediction; the first change nothing.

    Maps are compared as metrics see them: the clean ones move with their images, and what was outside the frame does
    not count. Parameters that leave no map to compare are passed over.
    """

    def __init__(
        self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball, against: str, about: str
    ) -> None:
        self.victim, self.images, self.targets, self.ball = victim, images, targets, ball
        self.against, self.about = against, about
        self.parameters = ball.center(images)
        with torch.no_grad():
            self.clean = victim.maps(images, targets)
            seen = self.look(self.parameters)
            self.prediction, self.loss = seen.logits.argmax(1), seen.goal.loss(seen.maps)

    def look(self, parameters: Tensor) -> Seen:
        """Explain the changed images: (B, P)."""
        maps, logits = self.victim.both(self.ball.apply(parameters, self.images), self.targets)
        clean, moved = (reduce(part) for part in self.ball.align(self.clean[:, None], maps[:, None], parameters))
        defined = clean.flatten(1).any(1) & moved.flatten(1).any(1)
        return Seen(moved, logits, make_goal(self.against, clean, self.about), defined)

    def offer(self, parameters: Tensor) -> None:
        """Take over the parameters that leave less, on the network itself: (B, P)."""
        with torch.no_grad():
            seen = self.look(parameters)
            loss = seen.goal.loss(seen.maps)
        better = (loss < self.loss) & (seen.logits.argmax(1) == self.prediction) & seen.defined
        self.parameters = torch.where(better[:, None], parameters, self.parameters)
        self.loss = torch.where(better, loss, self.loss)
