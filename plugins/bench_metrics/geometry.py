"""What metrics share that look at the logit around an image."""

from __future__ import annotations

import functools
import operator
from abc import abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor, nn

import bench
from bench import noise
from bench.gradients import differentiating, target_logits


@dataclass(frozen=True)
class Nearby(bench.Metric):
    """A metric of the network near an image, averaged over random steps away from it."""

    better = "lower"
    examples = ("", "eps=16/255,draws=2", "step=unit,draws=2", "step=uniform,draws=2")
    eps: Fraction = bench.param(
        Fraction(4, 255), "standard deviation of a step's elements, or length of a step, in pixel units", low=0, high=1
    )
    draws: int = bench.param(10, "steps from each image", low=1)
    step: Literal["normal", "unit", "uniform"] = bench.param(
        "normal",
        "eps times normal elements as in the authors' code, a unit vector as printed, or uniform elements on [-1, 1]",
        added=True,
    )

    @abstractmethod
    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, step: Tensor) -> Tensor:
        """Measure one step from each image: (N, C, H, W), (N,), (N, C, H, W) -> (N,) in float64."""

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, seed: int, test_data: bench.Data) -> Tensor:
        def means(images: Tensor, targets: Tensor) -> Tensor:
            steps = (float(self.eps) * self._draw(images) for _ in range(self.draws))
            values = (self.measure(network, images, targets, step) for step in steps)
            return functools.reduce(operator.add, values) / self.draws

        # One name for all, so a bound takes the same steps as what it bounds.
        return bench.chunked(means, images, targets, seed=seed, name="close", indices=test_data.rows)

    def _draw(self, images: Tensor) -> Tensor:
        if self.step == "uniform":
            return noise.uniform(images)
        drawn = noise.normal(images)
        return drawn if self.step == "normal" else drawn / drawn.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def flat_second(case: bench.Case) -> str | None:
    """Say why there is no second derivative in a case, or None."""
    if not case.model.smooth:
        return f"the second derivative of {case.model} is zero; choose a smooth model, such as activation=softplus"
    return None


def loss_hessian_product(network: nn.Module, images: Tensor, targets: Tensor, vectors: Tensor) -> Tensor:
    """Return the Hessian of each target's cross-entropy by its image, times a vector: (B, C, H, W), (B,),
    (B, C, H, W) -> (B, C, H, W), without a graph.

    Where logits are piecewise linear, this is W A W^T times the vector, with the Jacobian W of the logits and A =
    diag(p) - p p^T (the Gauss-Newton form).
    """
    with differentiating(images.detach()) as inputs:
        logits = bench.check_logits(network(inputs), images)
        loss = -target_logits(logits.log_softmax(1), images, targets).sum()
        (slope,) = torch.autograd.grad(loss, inputs, create_graph=True)
        (product,) = torch.autograd.grad(slope, inputs, vectors)
    return product
