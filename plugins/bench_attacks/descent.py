"""Descend an aim by gradient steps: what the white-box attacks share."""

from __future__ import annotations

import contextlib
import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import bench
from bench.gradients import slope, softened

# The score to lower, and the logits: (B, C, H, W) -> (B,), (B, K). All else is fixed on the clean images.
Aim = Callable[[Tensor], tuple[Tensor, Tensor]]
# Move images along their gradient: (B, C, H, W), (B, C, H, W) -> (B, C, H, W). Every start takes a new one.
Step = Callable[[Tensor, Tensor], Tensor]

FLAT = (
    "the gradient that the attack follows is zero on every image: the network is linear, or has activations in a form "
    "that is not known; write these as torch.nn has them, or use an attack without a gradient, such as random_search"
)


def aim_at_maps(
    victim: bench.Victim, images: Tensor, targets: Tensor, measure: Callable[[Tensor], Callable[[Tensor], Tensor]]
) -> Aim:
    """Make the aim of a measure of maps alone: `measure(clean maps)` returns a function (B, H, W) -> (B,)."""
    with torch.no_grad():
        score = measure(victim.maps(images, targets))

    def aim(moved: Tensor) -> tuple[Tensor, Tensor]:
        maps, logits = victim.both(moved, targets)
        return score(maps), logits

    return aim


@dataclass(frozen=True)
class Descent(bench.Attack):
    """An attack that follows the gradient of an aim. With a `beta`, the aim depends on maps."""

    @abstractmethod
    def aim(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Aim:
        """Return the function to lower. Everything fixed comes from the clean images."""

    def objective(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor]:
        aim = self.aim(victim, images, targets)
        return lambda moved: aim(moved)[0]

    def refuse(self, case: bench.Case) -> str | None:
        if self.beta is not None and not case.surrogate.differentiable:
            return f"it follows a gradient, and that of {case.surrogate} is zero; choose another --surrogate"
        return None


def steepest(ball: bench.Ball, length: float) -> Step:
    """Take steepest steps in the norm of the ball; `length` is a share of eps."""
    return lambda moved, gradient: moved - length * float(ball.eps) * ball.steepest(gradient)


def adam(ball: bench.Ball, length: float) -> Step:
    """Take steps of Adam (Kingma and Ba, ICLR 2015); the rate, `length`, is a share of eps."""
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
    """Each image's iterate with the smallest score so far, starting from the clean image.

    With `keep`, an iterate counts only if it keeps the prediction.
    """

    def __init__(self, images: Tensor, aim: Aim, keep: bool) -> None:
        self.aim, self.keep, self.images = aim, keep, images
        with torch.no_grad():
            self.least, logits = aim(images)
        self.prediction = logits.argmax(1)

    def offer(self, moved: Tensor, score: Tensor, logits: Tensor) -> None:
        """Take over the iterates that score lower."""
        better = score.detach() < self.least
        if self.keep:
            better &= logits.argmax(1) == self.prediction
        self.images = torch.where(better[:, None, None, None], moved.detach(), self.images)
        self.least = torch.where(better, score.detach(), self.least)

    def judge(self, moved: Tensor) -> None:
        """Offer iterates, scored on the network itself."""
        with torch.no_grad():
            self.offer(moved, *self.aim(moved))


def descend(
    victim: bench.Victim,
    images: Tensor,
    ball: bench.Ball,
    aim: Aim,
    starts: list[Tensor],
    steps: int,
    step: Callable[[], Step],
    beta: float | None,
    keep: bool = True,
) -> Tensor:
    """Take steps from each start, and return the best iterate of all; with `keep`, of those that keep the prediction.

    Gradients come from the network with softplus of sharpness `beta` in place of ReLU, because the gradients of a ReLU
    network's maps vanish. Scores come from the network itself. Where nothing was softened, the pass that gives the
    gradient also gives the score. Raises BadComponent for a gradient that is not finite.
    """
    best = Best(images, aim, keep)
    for moved in starts:
        walk, judged = step(), True
        for number in range(steps):
            moved = moved.detach().requires_grad_()
            with torch.enable_grad(), contextlib.nullcontext() if beta is None else softened(beta) as soft:
                score, logits = aim(moved)
                gradient = slope(score, moved)
            bad = gradient.isfinite().flatten(1).all(1).logical_not()
            # Where the network is judged as it comes, a broken iterate scores NaN and is passed over.
            if (soft is None or soft.replaced) and bad.any():
                owner = "the network" if beta is None else f"the maps of explainer {victim.explainer}"
                raise bench.BadComponent(
                    f"the gradient of {owner} contains NaN or infinity at step {number + 1} of {steps}, on image "
                    f"{int(bad.nonzero()[0])} of {len(images)}; use another explainer or --surrogate, or an attack "
                    "without a gradient, such as random_search"
                )
            if number == 0 and ball.eps and beta is not None and not gradient.any():
                warnings.warn(FLAT, stacklevel=2)
            if not (soft and soft.replaced):
                best.offer(moved, score, logits)
            with torch.no_grad():
                moved = ball.project(walk(moved.detach(), gradient), images)
            judged = bool(soft and soft.replaced)
            if judged:
                best.judge(moved)
        if not judged:
            best.judge(moved)
    return best.images
