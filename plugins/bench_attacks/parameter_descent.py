"""Descend by the parameters of a transformation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import bench
from bench import noise
from bench.gradients import slope, softened
from bench_attacks.objectives import Against, margins
from bench_attacks.parameters import ENGSTROM2019, Worst
from bench_attacks.search import MARGIN


@dataclass(frozen=True)
class ParameterDescent(bench.Attack):
    """Follow the gradient by the parameters of a transformation (the first-order attack of Engstrom et al., ICML 2019,
    which follows the cross-entropy; by hue and saturation, as Hsiung et al., CVPR 2023, do). The gradient is that of a
    metric, from random starts in the ball.

    Takes sign steps, projected to the ball, on maps that move with their images, and returns the parameters that leave
    least of the map among those met that keep the prediction. Near the decision boundary it also follows the margin of
    the prediction, since many starts lie beyond. Gradients come from the network with softplus in place of ReLU.
    Engstrom et al. find that first-order methods miss the worst transformations, so try `grid_search` as well. A step
    takes two maps, and the backward pass through one.
    """

    name = "parameter_descent"
    version = 2
    paper = ENGSTROM2019
    examples = ("steps=3,restarts=1", "steps=2,restarts=2,against=cosine")
    spaces = ("parameters",)
    steps: int = bench.param(10, "steps from each start", low=1)
    step: float = bench.param(0.1, "length of a step, as a share of eps", low=0)
    restarts: int = bench.param(4, "starts, drawn from the ball", low=1)
    beta: float = bench.param(20.0, "sharpness of the softplus that replaces ReLU in the gradients", low=0.1)
    against: Against = bench.param("topk_overlap", "the metric to lower")

    def refuse(self, case: bench.Case) -> str | None:
        if not case.surrogate.differentiable:
            return f"it follows a gradient, and that of {case.surrogate} is zero; choose another --surrogate"
        return None

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        with noise.ensured(len(images)):
            worst = Worst(victim, images, targets, ball, self.against, self.name)
            for _ in range(self.restarts):
                points = ball.sample(images)
                worst.offer(points)
                for _ in range(self.steps):
                    way = ball.steepest(self.gradient(worst, points))
                    points = ball.project(points - self.step * ball.reach * way, images)
                    worst.offer(points)
        return worst.parameters

    def make_point_objective(
        self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball
    ) -> Callable[[Tensor], Tensor] | None:
        worst = Worst(victim, images, targets, ball, self.against, self.name)
        return lambda points: self.score(worst, points)

    def make_point_loss(
        self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball
    ) -> Callable[[Tensor], Tensor] | None:
        worst = Worst(victim, images, targets, ball, self.against, self.name)

        def loss(points: Tensor) -> Tensor:
            seen = worst.look(points)
            return seen.goal.loss(seen.maps)

        return loss

    def gradient(self, worst: Worst, points: Tensor) -> Tensor:
        """The gradient of what the attack follows by parameters, zero where it is not finite: (B, P) -> (B, P)."""
        points = points.detach().requires_grad_()
        with torch.enable_grad(), softened(self.beta):
            found = slope(self.score(worst, points), points)
        return found.nan_to_num(0, 0, 0)

    def score(self, worst: Worst, points: Tensor) -> Tensor:
        """What the attack follows: (B, P) -> (B,)."""
        seen = worst.look(points)
        return seen.goal.follow(seen.maps) + (MARGIN - margins(seen.logits, worst.prediction)).relu()
