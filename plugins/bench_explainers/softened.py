"""Explain a network as if its ReLUs were softplus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

import bench
from bench.gradients import softened
from bench_explainers.gradient import Gradient


@dataclass(frozen=True)
class Softened(bench.Explainer):
    """Explain by another explainer with softplus in place of every ReLU (beta-smoothing; Dombrowski et al., NeurIPS
    2019, section 4). The softplus is log(1 + exp(beta z)) / beta. The trained network keeps its ReLUs for predictions,
    and its weights.

    The smaller beta, the smoother the maps, and the less they say of the network itself. The kin of ReLU are softened
    as well (`bench.gradients.softened`). A network without any is explained as it is.
    """

    name = "softened"
    paper = bench.papers.DOMBROWSKI2019
    examples = ("", "explainer=(smoothgrad:samples=3),beta=3")
    explainer: bench.Explainer = bench.param(Gradient(), "what explains the softened network")
    beta: float = bench.param(8.0, "sharpness of the softplus", low=0.001)

    @property
    def differentiable(self) -> bool:
        return self.explainer.differentiable

    @property
    def mask_rule(self) -> Literal["percentile", "minmax", "none"]:
        return self.explainer.mask_rule

    @property
    def prepares(self) -> bool:
        return self.explainer.prepares

    def refuse(self, case: bench.Case) -> str | None:
        return self.explainer.refuse(case)

    def prepare(self, network: nn.Module, train_data: bench.Data, fit: bench.Fit) -> dict[str, Tensor]:
        return self.explainer.prepare(network, train_data, fit)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor, *prepared: Any) -> Tensor:
        return self.explainer.attribute(Softplus(network, self.beta), images, targets, *prepared)


class Softplus(nn.Module):
    """A network with softplus in place of its ReLUs. Those of an explainer around it stay, as that of `gradcam`."""

    def __init__(self, network: nn.Module, beta: float) -> None:
        super().__init__()
        self.network, self.beta, self.training = network, beta, network.training

    def forward(self, images: Tensor) -> Tensor:
        with softened(self.beta):
            logits: Tensor = self.network(images)
        return logits
