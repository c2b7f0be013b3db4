"""Move the map's centre of mass away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

import bench
from bench_attacks.descent import Aim, Descent, Seen, follow
from bench_attacks.objectives import CenterShift


@dataclass(frozen=True)
class MassCenter(Descent):
    """Move the map's centre of mass as far as possible (Ghorbani et al., AAAI 2019, Alg. 1, mass-center). The objective
    is minus the squared distance between the centres of mass of the attacked and the clean map, in pixels.

    Steps, optimisers and the choice of the iterate are those of `topk`. Each search starts one step away from the clean
    image, in a random direction, because the gradient of a zero distance is zero. Differs from the authors' code:
    centres are not rounded to whole pixels.
    """

    name = "mass_center"
    paper = bench.papers.GHORBANI2019
    presets: ClassVar[dict[str, str]] = {"ghorbani2019": "optimiser=sign"}
    examples = ("steps=4", "steps=2,restarts=2", "steps=4,optimiser=adaptive")
    steps: int = bench.param(50, "gradient steps", low=1)
    step: float = bench.param(0.1, "length of a step, as a share of eps", low=0)
    restarts: int = bench.param(1, "starts, each in a random direction from the clean image", low=1)
    beta: float = bench.param(20.0, "sharpness of the softplus that replaces ReLU", low=0.01)
    optimiser: Literal["sign", "adaptive", "adam"] = bench.param("sign", "steepest steps, Auto-PGD's, or Adam's")

    def aim(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Aim:
        with torch.no_grad():
            goal = CenterShift.of(victim.maps(images, targets))

        def aim(moved: Tensor) -> Seen:
            maps, logits = victim.both(moved, targets)
            score = goal.follow(maps)
            return Seen(score, logits, score.detach())

        return aim

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        aim = self.aim(victim, images, targets)
        starts = [images + self.step * (ball.sample(images) - images) for _ in range(self.restarts)]
        return follow(self, victim, images, ball, aim, starts)
