"""Keep the curvature of losses small along the sign of their gradients."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

import bench
from bench_defenses.adversary import losses_and_slopes, unit


@dataclass(frozen=True)
class CURE(bench.Defense):
    """Lower the curvature of the loss along its gradient (Moosavi-Dezfooli et al., CVPR 2019). The loss is CE(x) +
    weight |q(x + h z) - q(x)|^2 with the gradient q of an image's loss by the normalised image and the unit vector z
    along the sign of q(x), a constant.

    The weight includes the 1 / h^2 of a finite difference, as in the paper. Their code takes the norm and not its
    square, computes it in eval mode, where here q(x) shares the forward pass of the cross-entropy, and accepts an h for
    each epoch. It fine-tunes a trained network, as a schedule with `init` does.
    """

    name = "cure"
    paper = bench.Paper(
        "Robustness via Curvature Regularization, and Vice Versa",
        "Seyed-Mohsen Moosavi-Dezfooli and Alhussein Fawzi and Jonathan Uesato and Pascal Frossard",
        "CVPR",
        2019,
        "https://arxiv.org/abs/1811.09716",
    )
    weight: float = bench.param(4.0, "weight of the squared difference of gradients", low=0)
    h: float = bench.param(1.5, "l2 length of the step, in units of the normalised image", low=0)

    def train(self, fit: bench.Fit) -> nn.Module:
        return fit.minimise(fit.fresh(), self.loss)

    def loss(self, network: nn.Module, batch: bench.Batch) -> Tensor:
        _, std = bench.normalisation(network)
        losses, clean = losses_and_slopes(network, batch.images, batch.labels)
        step = std * self.h * unit(clean.detach().sign())
        _, moved = losses_and_slopes(network, batch.images + step, batch.labels)
        return losses.mean() + self.weight * (std * (moved - clean)).square().sum((1, 2, 3)).mean()
