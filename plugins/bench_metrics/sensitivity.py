"""Measure how far an attribution moves nearby."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

import bench
from bench import noise
from bench_metrics.infidelity import Infidelity


@dataclass(frozen=True)
class Sensitivity(bench.Metric):
    """A metric of |a(x') - a(x)| / |a(x)|, in l2, over images x' drawn uniformly from the linf ball around x."""

    better = "lower"
    range = (0.0, None)
    paper = Infidelity.paper
    examples = ("", "eps=16/255,draws=2")
    eps: Fraction = bench.param(Fraction(8, 255), "half-width of the ball, in pixel units", low=0, high=1)
    draws: int = bench.param(10, "images drawn around each", low=1)

    @abstractmethod
    def gather(self, moves: Tensor) -> Tensor:
        """Make one number of the moves of each image: (N, draws) -> (N,)."""

    def __call__(
        self,
        network: nn.Module,
        explain: Callable[..., Tensor],
        images: Tensor,
        targets: Tensor,
        clean_attributions: Tensor,
        seed: int,
        test_data: bench.Data,
    ) -> Tensor:
        here = clean_attributions.flatten(1).double()
        moves = []
        # One name for both, so that the mean is never above the maximum.
        with noise.rows(seed, "sensitivity", test_data.rows):
            for _ in range(self.draws):
                near = bench.Ball("linf", self.eps).sample(images)
                moves.append((explain(network, near, targets, raw=True).flatten(1).double() - here).norm(dim=1))
        size = here.norm(dim=1)
        return torch.where(size > 0, self.gather(torch.stack(moves, 1)) / size, torch.nan)


@dataclass(frozen=True)
class MaxSensitivity(Sensitivity):
    """Take the largest relative change of the attribution near the image (Yeh et al., NeurIPS 2019, definition 3.1).
    The change is |a(x') - a(x)| / |a(x)|, in l2, with the signed attribution a of the same class, over images x' drawn
    uniformly from the linf ball around x.

    Their definition does not divide by |a(x)|; here the scale of attributions does not count. Random draws bound the
    maximum over the ball from below. x' is clipped to [0, 1]. An explainer that draws noise draws it afresh. Undefined
    where the attribution of the image is zero.
    """

    name = "max_sensitivity"
    help = "largest relative change of the attribution, over random draws nearby"

    def gather(self, moves: Tensor) -> Tensor:
        return moves.amax(1)


@dataclass(frozen=True)
class AverageSensitivity(Sensitivity):
    """Average the relative change of the attribution near the image (the mean in place of the largest of Yeh et al.,
    NeurIPS 2019). The change is |a(x') - a(x)| / |a(x)|, in l2, over the draws of which `max_sensitivity` takes the
    largest. Undefined where the attribution of the image is zero.
    """

    name = "average_sensitivity"
    help = "relative change of the attribution, mean over random draws nearby"

    def gather(self, moves: Tensor) -> Tensor:
        return moves.mean(1)
