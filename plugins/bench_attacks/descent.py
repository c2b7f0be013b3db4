"""Descend an aim by gradient steps: what the white-box attacks share."""

from __future__ import annotations

import contextlib
import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

import bench
from bench.gradients import slope, softened
from bench_attacks.steps import Step, make

FLAT = (
    "the gradient that the attack follows is zero on every image: the network is linear, or has activations in a form "
    "that is not known; write these as torch.nn has them, or use an attack without a gradient, such as random_search"
)


PATIENCE = 10  # steps between looks whether anything is left to gain, for which a GPU has to wait


class Seen(NamedTuple):
    """What an aim makes of images: the score to lower, the logits, and the loss that iterates are chosen by."""

    score: Tensor  # (B,)
    logits: Tensor  # (B, K)
    loss: Tensor  # (B,)


# All else is fixed on the clean images.
Aim = Callable[[Tensor], Seen]


@dataclass(frozen=True)
class Descent(bench.Attack):
    """An attack that follows the gradient of an aim. With a `beta`, the aim depends on maps."""

    @abstractmethod
    def aim(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Aim:
        """Return the function to lower. Everything fixed comes from the clean images."""

    def make_objective(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor]:
        aim = self.aim(victim, images, targets)
        return lambda moved: aim(moved).score

    def make_loss(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor]:
        aim = self.aim(victim, images, targets)
        return lambda moved: aim(moved).loss

    def refuse(self, case: bench.Case) -> str | None:
        if self.beta is not None and not case.surrogate.differentiable:
            return f"it follows a gradient, and that of {case.surrogate} is zero; choose another surrogate"
        return None


def everywhere(loss: Tensor) -> Tensor:
    """There is always something left to gain: (B,) -> (B,) bool."""
    return torch.ones_like(loss, dtype=torch.bool)


class Best:
    """Each image's iterate with the smallest loss so far.

    With `keep`, an iterate counts only if it keeps the prediction. `is_open` says, by the loss, on which images there
    is something left to gain; the others stay as they are.
    """

    def __init__(
        self,
        images: Tensor,
        prediction: Tensor,
        loss: Tensor,
        keep: bool = True,
        is_open: Callable[[Tensor], Tensor] = everywhere,
    ) -> None:
        self.images, self.prediction, self.loss, self.keep, self.is_open = images, prediction, loss, keep, is_open

    @classmethod
    def of(cls, images: Tensor, aim: Aim, keep: bool = True) -> Best:
        """Begin with the clean images."""
        with torch.no_grad():
            _, logits, loss = aim(images)
        return cls(images, logits.argmax(1), loss, keep)

    def offer(self, moved: Tensor, logits: Tensor, loss: Tensor) -> None:
        """Take over the iterates that score lower."""
        better = (loss.detach() < self.loss) & self.is_open(self.loss)
        if self.keep:
            better &= logits.argmax(1) == self.prediction
        self.images = torch.where(better[:, None, None, None], moved.detach(), self.images)
        self.loss = torch.where(better, loss.detach(), self.loss)

    def judge(self, moved: Tensor, aim: Aim) -> None:
        """Offer iterates, scored on the network itself."""
        with torch.no_grad():
            _, logits, loss = aim(moved)
        self.offer(moved, logits, loss)

    def at(self, rows: Tensor) -> Best:
        """The same for some of the images."""
        return Best(self.images[rows], self.prediction[rows], self.loss[rows], self.keep, self.is_open)

    def put(self, rows: Tensor, other: Best) -> None:
        """Take back what `at` gave away."""
        self.images, self.loss = (
            self.images.index_copy(0, rows, other.images),
            self.loss.index_copy(0, rows, other.loss),
        )


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
    network's maps vanish. Scores come from the network itself. Raises BadComponent for a gradient that is not finite.
    """
    best = Best.of(images, aim, keep)
    for start in starts:
        walk(victim, best, ball, images, aim, start, steps, step(), beta)
    return best.images


class Optimised(Protocol):
    """An attack whose parameters say how it descends."""

    @property
    def optimiser(self) -> str: ...
    @property
    def step(self) -> float: ...
    @property
    def steps(self) -> int: ...
    @property
    def beta(self) -> float | None: ...


def follow(
    attack: Optimised, victim: bench.Victim, images: Tensor, ball: bench.Ball, aim: Aim, starts: list[Tensor]
) -> Tensor:
    """Descend as the parameters of an attack say."""
    return descend(
        victim,
        images,
        ball,
        aim,
        starts,
        attack.steps,
        lambda: make(attack.optimiser, ball, attack.step, images, attack.steps),
        attack.beta,
    )


def walk(
    victim: bench.Victim,
    best: Best,
    ball: bench.Ball,
    images: Tensor,
    aim: Aim,
    start: Tensor,
    steps: int,
    step: Step,
    beta: float | None,
    lenient: bool = False,
) -> None:
    """Take steps from a start, and offer each iterate. With `lenient`, an image whose gradient is not finite stays.

    Where nothing was softened, the pass that gives the gradient also gives the loss. The walk ends early where nothing
    is left to gain.
    """
    moved, judged = start, True
    for number in range(steps):
        if number % PATIENCE == PATIENCE - 1 and not best.is_open(best.loss).any():
            break
        moved = moved.detach().requires_grad_()
        with torch.enable_grad(), contextlib.nullcontext() if beta is None else softened(beta) as soft:
            score, logits, loss = aim(moved)
            gradient = slope(score, moved)
        is_bad = gradient.isfinite().flatten(1).all(1).logical_not()
        if lenient:
            gradient = torch.where(is_bad[:, None, None, None], 0.0, gradient)
        # Where the network is judged as it comes, a broken iterate scores NaN and is passed over.
        elif (soft is None or soft.replaced) and is_bad.any():
            owner = "the network" if beta is None else f"the maps of explainer {victim.explainer}"
            raise bench.BadComponent(
                f"the gradient of {owner} contains NaN or infinity at step {number + 1} of {steps}, on image "
                f"{int(is_bad.nonzero()[0])} of {len(images)}; use another explainer or surrogate, or an attack "
                "without a gradient, such as random_search"
            )
        elif number == 0 and ball.eps and beta is not None and not gradient.any():
            warnings.warn(FLAT, stacklevel=2)
        if not (soft and soft.replaced):
            best.offer(moved, logits, loss)
        with torch.no_grad():
            moved = ball.project(step(moved.detach(), gradient, score.detach()), images)
        judged = bool(soft and soft.replaced)
        if judged:
            best.judge(moved, aim)
    if not judged:
        best.judge(moved, aim)
