"""Keep the pixels at the top of a map apart from those that follow, and the map from bending."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

import bench
from bench import papers
from bench_defenses.adversary import losses_and_slopes, unit


@dataclass(frozen=True)
class R2ET(bench.Defense):
    """Widen the gap below the top k pixels, and lower the curvature of the loss (Chen et al., NeurIPS 2024, as
    released). The loss is CE - weight gap + bending |q(x + h z) - q(x)| / h with the gradient q of an image's loss by
    the normalised image and the unit vector z along the sign of q(x), a constant. The gap is that between the sum of
    the k largest values of |q(x)|, summed over channels, and the sum of the next k.

    The released code adds up the differences of the k-th value to those before it and to the k after it, which is the
    gap. A gap has no upper bound; with `adaptive`, as in that code, each penalty is scaled at every step to its weight
    times 1 + CE. That code fine-tunes a trained network with softplus (beta 0.5) in place of ReLU, with one weight for
    both, and tries 0.001 to 100; from fresh weights, 0.1 can end with one class for all images. Its step is h / 3072
    along the sign, with h = 0.001, and the change is divided by h. Here h is the length of the step, thousands of times
    as long by default, and the norm is that of each image and not of the batch.
    """

    name = "r2et"
    paper = papers.CHEN2024
    examples = ("k=20", "k=20,adaptive=false,weight=0.001")
    weight: float = bench.param(0.01, "weight of the gap", low=0)
    bending: float = bench.param(0.01, "weight of the map's change", low=0)
    k: int = bench.param(100, "pixels at the top of the map", low=1)
    h: float = bench.param(0.1, "l2 length of the step, in units of the normalised image", low=1e-6)
    adaptive: bool = bench.param(True, "whether penalties are scaled to the cross-entropy")

    def refuse(self, case: bench.Case) -> str | None:
        return self._find_misfit(case.dataset.form[0])

    def _find_misfit(self, shape: tuple[int, int, int]) -> str | None:
        _, height, width = shape
        if 2 * self.k > height * width:
            return f"k is {self.k}, images are {height} x {width}; give at most half of their pixels"
        return None

    def train(self, fit: bench.Fit) -> nn.Module:
        if why := self._find_misfit(fit.data.shape):
            raise bench.BadValue(f"r2et: {why}")
        return fit.minimise(fit.fresh(), self.loss)

    def loss(self, network: nn.Module, batch: bench.Batch) -> Tensor:
        _, std = bench.normalisation(network)
        losses, clean = losses_and_slopes(network, batch.images, batch.labels)
        moved = batch.images + std * self.h * unit(clean.detach().sign())
        _, slopes = losses_and_slopes(network, moved, batch.labels)
        loss = losses.mean()
        bending = (std * (slopes - clean)).flatten(1).norm(dim=1).mean() / self.h
        total = loss
        for weight, penalty in ((self.weight, -gap(std * clean, self.k).mean()), (self.bending, bending)):
            scale = (1 + loss.detach()) / penalty.detach().abs().clamp(min=1e-12) if self.adaptive else 1.0
            total = total + weight * scale * penalty
        return total


def gap(slopes: Tensor, count: int) -> Tensor:
    """Return how far the sum of a map's largest values is above that of as many that follow: (B, C, H, W) -> (B,)."""
    top = slopes.abs().sum(1).flatten(1).topk(2 * count, dim=1).values
    return top[:, :count].sum(1) - top[:, count:].sum(1)
