"""Average the maps of several explainers."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import bench
from bench_explainers.gradient import Gradient
from bench_explainers.input_x_gradient import InputXGradient


@dataclass(frozen=True)
class Aggregation(bench.Explainer):
    """Average the maps of several explainers, each of sum one (AGG-Mean; Rieger and Hansen, 2020).

    Attacks follow a gradient through it where they can through all of its explainers; otherwise through none.
    """

    name = "aggregation"
    paper = bench.Paper(
        "A simple defense against adversarial attacks on heatmap explanations",
        "Laura Rieger and Lars Kai Hansen",
        "arXiv",
        2020,
        "https://arxiv.org/abs/2007.06381",
    )
    examples = (
        "",
        "explainers=(gradient,smoothgrad:samples=2,gradcam)",
        "explainers=(gradient,occlusion:window=6)",
        "explainers=(expected_gradients,random_map)",
    )
    explainers: tuple[bench.Explainer, ...] = bench.param((Gradient(), InputXGradient()), "whose maps are averaged")

    def find_problem(self) -> str | None:
        return None if self.explainers else "explainers is empty; name at least one, explainers=(gradient)"

    @property
    def differentiable(self) -> bool:
        return all(each.differentiable for each in self.explainers)

    @property
    def prepares(self) -> bool:
        return any(each.prepares for each in self.explainers)

    def refuse(self, case: bench.Case) -> str | None:
        return next(filter(None, (each.refuse(case) for each in self.explainers)), None)

    def prepare(self, network: nn.Module, train_data: bench.Data, fit: bench.Fit) -> dict[str, Tensor]:
        return {
            f"{place}.{name}": tensor
            for place, each in enumerate(self.explainers)
            for name, tensor in each.prepare(network, train_data, fit).items()
        }

    def attribute(
        self, network: nn.Module, images: Tensor, targets: Tensor, prepared: dict[str, Tensor] | None = None
    ) -> Tensor:
        total = torch.zeros_like(images[:, 0])
        with contextlib.nullcontext() if self.differentiable else torch.no_grad():
            for place, each in enumerate(self.explainers):
                start = f"{place}."
                own = {n.removeprefix(start): t for n, t in (prepared or {}).items() if n.startswith(start)}
                total = total + each.maps(network, images, targets, own)
        return (total / len(self.explainers))[:, None]
