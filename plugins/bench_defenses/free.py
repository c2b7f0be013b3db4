"""Train on perturbed images at the price of ordinary training."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench


@dataclass(frozen=True)
class Free(bench.Defense):
    """Minimise the cross-entropy at adversarial images that cost no extra passes (free adversarial training; Shafahi et
    al., NeurIPS 2019, Alg. 1). The images are x + d; every backward pass gives both the step of the weights and a sign
    step of d, eps long.

    Each batch is repeated `replays` times, and the epochs are divided by that number. d passes from batch to batch by
    position. x + d is clipped to valid images; norm_at:scheme=free works in units of the normalised image, unclipped.
    """

    name = "free"
    paper = bench.Paper(
        "Adversarial Training for Free!",
        "Ali Shafahi and Mahyar Najibi and Amin Ghiasi and Zheng Xu and John Dickerson and Christoph Studer and Larry "
        "S. Davis and Gavin Taylor and Tom Goldstein",
        "NeurIPS",
        2019,
        "https://arxiv.org/abs/1904.12843",
    )
    examples = ("replays=2",)
    eps: Fraction = bench.param(Fraction(8, 255), "radius of the linf ball, in pixel units", low=0, high=1)
    replays: int = bench.param(8, "times that a batch is repeated", low=1)

    def train(self, fit: bench.Fit) -> nn.Module:
        network, eps = fit.fresh(), float(self.eps)
        mean, _ = bench.normalisation(network)
        fit.state["change"] = torch.zeros(fit.batch, *fit.data.shape, device=mean.device)

        def loss(network: nn.Module, batch: bench.Batch) -> Tensor:
            moved = batch.images + fit.state["change"][: len(batch.images)]
            return F.cross_entropy(network(moved.clamp(0, 1)), batch.labels)

        def after(batch: bench.Batch, gradient: Tensor) -> None:
            change = fit.state["change"][: len(batch.images)]
            change.add_(eps * gradient.sign()).clamp_(-eps, eps)

        return fit.minimise(network, loss, replays=self.replays, after=after)
