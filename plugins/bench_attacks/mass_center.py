"""Move the map's centre of mass away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import bench
from bench_attacks.descent import Aim, Descent, aim_at_maps, descend, steepest


@dataclass(frozen=True)
class MassCenter(Descent):
    """Maximise the distance between the centres of mass of the attacked and the clean map (Ghorbani et al., AAAI 2019,
    Alg. 1, mass-center). The objective is minus the squared distance, in pixels.

    Steps and the choice of the iterate are those of `topk`. Each search starts one step away from the clean image, in a
    random direction, because the gradient of a zero distance is zero. Differs from the authors' code: centres are not
    rounded to whole pixels.
    """

    name = "mass_center"
    paper = bench.papers.GHORBANI2019
    examples = ("steps=4", "steps=2,restarts=2")
    steps: int = bench.param(50, "gradient steps", low=1)
    step: float = bench.param(0.1, "length of a step, as a share of eps", low=0)
    restarts: int = bench.param(1, "starts, each in a random direction from the clean image", low=1)
    beta: float = bench.param(20.0, "sharpness of the softplus that replaces ReLU", low=0.01)

    def measure(self, maps: Tensor) -> Callable[[Tensor], Tensor]:
        """Return minus the squared distance between the centres of maps and of the clean maps."""
        clean = center(maps)
        return lambda moved: -(center(moved) - clean).square().sum(1)

    def aim(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Aim:
        return aim_at_maps(victim, images, targets, self.measure)

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        aim = self.aim(victim, images, targets)
        starts = [images + self.step * (ball.sample(images) - images) for _ in range(self.restarts)]
        return descend(victim, images, ball, aim, starts, self.steps, lambda: steepest(ball, self.step), self.beta)


def center(maps: Tensor) -> Tensor:
    """Row and column of the centre of mass of maps that sum to one: (B, H, W) -> (B, 2)."""
    rows, columns = (torch.arange(size, dtype=maps.dtype, device=maps.device) for size in maps.shape[1:])
    return torch.stack([(maps.sum(2) * rows).sum(1), (maps.sum(1) * columns).sum(1)], 1)
