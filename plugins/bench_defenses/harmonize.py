"""Penalise loss gradients where nobody looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench_defenses.adversary import loss_gradient, unit


@dataclass(frozen=True)
class Harmonize(bench.Defense):
    """Penalise the gradient of the loss, more so where a pixel gets less attention (Gong et al., CVPR 2024). The loss
    is the cross-entropy at x + (eps max A - 2 eps A) q / |q|, with the attention map A of the image and the gradient q
    of its loss by the normalised image.

    eps is in units of the normalised image. The authors' code takes one for the maximum of A; here it is the maximum of
    the image's own map. An image without attention does not move.
    """

    name = "harmonize"
    paper = bench.papers.GONG2024
    examples = ("", "attention=object_masks,eps=0.1")
    attention: Literal["gaze", "object_masks"] = bench.param("gaze", "part of the data set that says where to look")
    eps: float = bench.param(0.5, "length of the step where nobody looks, in units of the normalised image", low=0)

    def refuse(self, case: bench.Case) -> str | None:
        if self.attention not in case.dataset.provides:
            return f"dataset {case.dataset} has no {self.attention.replace('_', ' ')}; choose another data set"
        return None

    def train(self, fit: bench.Fit) -> nn.Module:
        return fit.minimise(fit.fresh(), self.loss)

    def loss(self, network: nn.Module, batch: bench.Batch) -> Tensor:
        _, std = bench.normalisation(network)
        attention = batch.gaze if self.attention == "gaze" else batch.object_masks
        assert attention is not None  # or `refuse` would have said so
        attention = attention.to(batch.images)[:, None]
        direction = unit(std * loss_gradient(network, batch.images, batch.labels))
        change = self.eps * (attention.amax((1, 2, 3), keepdim=True) - 2 * attention) * direction
        return F.cross_entropy(network(batch.images + std * change), batch.labels)
