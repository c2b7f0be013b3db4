"""Train by binary cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

import bench


@dataclass(frozen=True)
class BCE(bench.Defense):
    """Minimise the binary cross-entropy of each class against all others. The loss is a mean over classes. B-cos
    networks are trained so (Böhle, Fritz and Schiele, CVPR 2022): it asks for large logits of the label, which needs
    inputs along the weights, and not merely for larger ones than those of other classes. The cost is that of
    cross-entropy.
    """

    name = "bce"
    paper = bench.papers.BOHLE2022

    def train(self, fit: bench.Fit) -> nn.Module:
        return fit.minimise(fit.fresh(), binary_cross_entropy)


def binary_cross_entropy(network: nn.Module, batch: bench.Batch) -> Tensor:
    logits = network(batch.images)
    return F.binary_cross_entropy_with_logits(logits, F.one_hot(batch.labels, logits.shape[1]).to(logits))
