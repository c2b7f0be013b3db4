"""Steps down a measure of the map: what the white-box attacks share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import bench
from bench.gradients import softened

# What is to fall, (B, H, W) -> (B,), with all that is fixed taken from the clean maps.
Measure = Callable[[Tensor], Callable[[Tensor], Tensor]]


GHORBANI2019 = bench.Paper(
    "Interpretation of Neural Networks Is Fragile",
    "Amirata Ghorbani and Abubakar Abid and James Zou",
    "AAAI",
    2019,
    "https://doi.org/10.1609/aaai.v33i01.33013681",
)


def objective(victim: bench.Victim, images: Tensor, targets: Tensor, measure: Measure) -> Callable[[Tensor], Tensor]:
    """The measure as a function of images, (B, C, H, W) -> (B,), fixed on the clean ones."""
    with torch.no_grad():
        score = measure(victim.maps(images, targets))
    return lambda moved: score(victim.maps(moved, targets))


def needs_a_gradient(case: bench.Case) -> str | None:
    """Why an attack that follows a gradient cannot take part in a case, or None."""
    if not case.surrogate.differentiable:
        return f"it follows a gradient, and that of {case.surrogate} is zero; choose another --surrogate"
    return None


class Best:
    """The smallest score so far of each image among iterates that keep the prediction; at first the clean one's."""

    def __init__(self, victim: bench.Victim, images: Tensor, targets: Tensor, measure: Measure) -> None:
        with torch.no_grad():
            maps, logits = victim.both(images, targets)
        self.victim, self.targets = victim, targets
        self.prediction, self.score = logits.argmax(1), measure(maps)
        self.images, self.least = images, self.score(maps)

    def offer(self, moved: Tensor, score: Tensor, logits: Tensor) -> Tensor:
        """Take over what is better; which images that was, (B,)."""
        better = (logits.argmax(1) == self.prediction) & (score.detach() < self.least)
        self.images = torch.where(better[:, None, None, None], moved.detach(), self.images)
        self.least = torch.where(better, score.detach(), self.least)
        return better

    def look(self, moved: Tensor) -> Tensor:
        """Offer images as the network itself sees them."""
        with torch.no_grad():
            maps, logits = self.victim.both(moved, self.targets)
            return self.offer(moved, self.score(maps), logits)


def descend(
    victim: bench.Victim,
    images: Tensor,
    targets: Tensor,
    ball: bench.Ball,
    measure: Measure,
    start: Callable[[int], Tensor],
    restarts: int,
    steps: int,
    step: float,
    beta: float,
) -> Tensor:
    """The best iterate of `steps` steps of length `step` times eps from each of `restarts` starts, `start(number)`.

    Gradients come from the network with softplus of sharpness `beta` for ReLU, since those of a ReLU network's maps
    vanish; what counts, and what the measure fixes, comes from the network itself. Where nothing was softened the two
    are one, and an iterate is judged by the pass that gives its gradient.
    """
    best = Best(victim, images, targets, measure)
    for number in range(restarts):
        moved, judged = start(number), True
        for _ in range(steps):
            moved = moved.detach().requires_grad_()
            with torch.enable_grad(), softened(beta) as soft:
                maps, logits = victim.both(moved, targets)
                aim = best.score(maps)
                (gradient,) = torch.autograd.grad(aim.sum(), moved)
            if not soft.replaced:
                best.offer(moved, aim, logits)
            moved = ball.project(moved - step * float(ball.eps) * ball.steepest(gradient), images).detach()
            judged = bool(soft.replaced)
            if judged:
                best.look(moved)
        if not judged:
            best.look(moved)
    return best.images
