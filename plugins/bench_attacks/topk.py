"""Drive mass out of the most important pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import bench
from bench.gradients import softened


@dataclass(frozen=True)
class TopK(bench.Attack):
    """Minimise the share of a map's mass in the k most important pixels of the clean map (Ghorbani et al., AAAI 2019,
    Alg. 1, top-k).

    Sign steps inside the ball from the clean image. Gradients come from the network with softplus for ReLU (`beta`),
    since those of a ReLU network vanish; the k pixels, the prediction and the share that counts come from the network
    itself. Returned is the iterate of the smallest share, the start included, among those that keep the prediction of
    the clean image.

    Differs from the authors' code: the iterates are clipped to the ball, not scaled into it; the last one is looked at
    too; the step is relative to eps.
    """

    name = "topk"
    paper = bench.Paper(
        "Interpretation of Neural Networks Is Fragile",
        "Amirata Ghorbani and Abubakar Abid and James Zou",
        "AAAI",
        2019,
        "https://doi.org/10.1609/aaai.v33i01.33013681",
    )
    examples = ("k=5,steps=4",)
    k: int = bench.param(20, "pixels whose share is driven down", low=1)
    steps: int = bench.param(50, "gradient steps", low=1)
    step: float = bench.param(0.1, "length of a step, as a share of eps", low=0)
    beta: float = bench.param(20.0, "sharpness of the softplus that stands for ReLU", low=0.01)

    def refuse(self, case: bench.Case) -> str | None:
        if not case.surrogate.differentiable:
            return f"it follows a gradient, and that of {case.surrogate} is zero; choose another --surrogate"
        return None

    def objective(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor]:
        with torch.no_grad():
            top = top_pixels(victim.maps(images, targets), self.k)
        return lambda moved: share(victim.maps(moved, targets), top)

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        with torch.no_grad():
            maps, logits = victim.both(images, targets)
        top, prediction = top_pixels(maps, self.k), logits.argmax(1)
        best, least = images, share(maps, top)
        moved = images
        for _ in range(self.steps):
            moved = moved.detach().requires_grad_()
            with torch.enable_grad(), softened(self.beta) as soft:
                maps, logits = victim.both(moved, targets)
                aim = share(maps, top)
                (gradient,) = torch.autograd.grad(aim.sum(), moved)
            if not soft.replaced:  # nothing was softened: these are the network's own values
                best, least = smaller(best, least, moved, aim, logits.argmax(1) == prediction)
            moved = ball.project(moved - self.step * float(ball.eps) * ball.steepest(gradient), images).detach()
            if soft.replaced:
                best, least = self._looked(victim, targets, top, prediction, best, least, moved)
        return best if soft.replaced else self._looked(victim, targets, top, prediction, best, least, moved)[0]

    def _looked(
        self,
        victim: bench.Victim,
        targets: Tensor,
        top: Tensor,
        prediction: Tensor,
        best: Tensor,
        least: Tensor,
        moved: Tensor,
    ) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            maps, logits = victim.both(moved, targets)
            return smaller(best, least, moved, share(maps, top), logits.argmax(1) == prediction)


def top_pixels(maps: Tensor, k: int) -> Tensor:
    """Where the k largest pixels of each map are, (B, H, W) -> (B, H, W) bool; of equal ones the first in reading
    order."""
    flat = maps.flatten(1)
    if k > flat.shape[1]:
        raise bench.BadValue(f"topk: k is {k}, the maps have {flat.shape[1]} pixels")
    order = flat.argsort(dim=1, descending=True, stable=True)[:, :k]
    return torch.zeros_like(flat, dtype=torch.bool).scatter(1, order, True).view_as(maps)


def share(maps: Tensor, top: Tensor) -> Tensor:
    """The mass of each map in the marked pixels: (B, H, W), (B, H, W) -> (B,)."""
    return (maps * top).sum((1, 2))


def smaller(best: Tensor, least: Tensor, moved: Tensor, score: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """The better of two iterates, row by row, and its score."""
    better = allowed & (score.detach() < least)
    return torch.where(better[:, None, None, None], moved.detach(), best), torch.where(better, score.detach(), least)
