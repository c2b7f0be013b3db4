"""Steps down an aim: what the white-box attacks share."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import bench
from bench.gradients import slope, softened

# What is to fall, and the logits: (B, C, H, W) -> (B,), (B, K); all else is fixed on the clean images.
Aim = Callable[[Tensor], tuple[Tensor, Tensor]]
# A step from images along their gradient: (B, C, H, W), (B, C, H, W) -> (B, C, H, W); a new one for every start.
Step = Callable[[Tensor, Tensor], Tensor]


def of_maps(
    victim: bench.Victim, images: Tensor, targets: Tensor, measure: Callable[[Tensor], Callable[[Tensor], Tensor]]
) -> Aim:
    """The aim of a measure of maps alone: `measure(clean maps)` gives (B, H, W) -> (B,)."""
    with torch.no_grad():
        score = measure(victim.maps(images, targets))

    def aim(moved: Tensor) -> tuple[Tensor, Tensor]:
        maps, logits = victim.both(moved, targets)
        return score(maps), logits

    return aim


@dataclass(frozen=True)
class Descent(bench.Attack):
    """An attack that follows the gradient of an aim; of maps, where it has a `beta`."""

    @abstractmethod
    def aim(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Aim:
        """What is to fall, with all that is fixed taken from the clean images."""

    def objective(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor]:
        aim = self.aim(victim, images, targets)
        return lambda moved: aim(moved)[0]

    def refuse(self, case: bench.Case) -> str | None:
        if self.beta is not None and not case.surrogate.differentiable:
            return f"it follows a gradient, and that of {case.surrogate} is zero; choose another --surrogate"
        return None


def steepest(ball: bench.Ball, length: float) -> Step:
    """Steps of a length, as a share of eps, in the norm of the ball."""
    return lambda moved, gradient: moved - length * float(ball.eps) * ball.steepest(gradient)


def adam(ball: bench.Ball, length: float) -> Step:
    """Steps of Adam at a rate, as a share of eps (Kingma and Ba, ICLR 2015)."""
    state: list[torch.optim.Adam] = []

    def step(moved: Tensor, gradient: Tensor) -> Tensor:
        if not state:
            state.append(torch.optim.Adam([moved.clone()], lr=length * float(ball.eps)))
        (leaf,) = state[0].param_groups[0]["params"]
        leaf.copy_(moved)
        leaf.grad = gradient
        state[0].step()
        return leaf.clone()

    return step


class Best:
    """The smallest score so far of each image among iterates that keep the prediction; at first the clean one's."""

    def __init__(self, images: Tensor, aim: Aim, keep: bool) -> None:
        self.aim, self.keep, self.images = aim, keep, images
        with torch.no_grad():
            self.least, logits = aim(images)
        self.prediction = logits.argmax(1)

    def offer(self, moved: Tensor, score: Tensor, logits: Tensor) -> None:
        """Take over what is better."""
        better = score.detach() < self.least
        if self.keep:
            better &= logits.argmax(1) == self.prediction
        self.images = torch.where(better[:, None, None, None], moved.detach(), self.images)
        self.least = torch.where(better, score.detach(), self.least)

    def look(self, moved: Tensor) -> None:
        """Offer images as the network itself sees them."""
        with torch.no_grad():
            self.offer(moved, *self.aim(moved))


def descend(
    images: Tensor,
    ball: bench.Ball,
    aim: Aim,
    starts: list[Tensor],
    steps: int,
    step: Callable[[], Step],
    beta: float | None,
    keep: bool = True,
) -> Tensor:
    """The best iterate of some steps from each start, among those that `keep` the prediction.

    Gradients come from the network with softplus of sharpness `beta` for ReLU, since those of a ReLU network's maps
    vanish; what counts comes from the network itself. Where nothing was softened the two are one, and an iterate is
    judged by the pass that gives its gradient.
    """
    best = Best(images, aim, keep)
    for moved in starts:
        walk, judged = step(), True
        for _ in range(steps):
            moved = moved.detach().requires_grad_()
            with torch.enable_grad(), contextlib.nullcontext() if beta is None else softened(beta) as soft:
                score, logits = aim(moved)
                gradient = slope(score, moved)
            if not (soft and soft.replaced):
                best.offer(moved, score, logits)
            with torch.no_grad():
                moved = ball.project(walk(moved.detach(), gradient), images)
            judged = bool(soft and soft.replaced)
            if judged:
                best.look(moved)
        if not judged:
            best.look(moved)
    return best.images
