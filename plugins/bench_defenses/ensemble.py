"""Average networks that a defense trains from different seeds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import bench
from bench_defenses.ce import CE


@dataclass(frozen=True)
class Ensemble(bench.Defense):
    """Average the logits of several networks that differ in their seed alone (deep ensembles; Lakshminarayanan et al.,
    NeurIPS 2017). The seed decides initial weights, order of the images and augmentation.

    The networks of seed s are those that the inner defense trains with the seeds k s to k s + k - 1, where k is their
    number: ordinary values of the store, which plain rows with these seeds share. The authors average probabilities.
    Here it is logits, so that the gradient of the ensemble is the mean of the networks' gradients, without weights that
    depend on how sure each network is. Explainers that look at one layer, as Grad-CAM and its kin do, look at that of
    the last network. The cost is that of k trainings, and k passes for each pass.
    """

    name = "ensemble"
    paper = bench.Paper(
        "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
        "Balaji Lakshminarayanan and Alexander Pritzel and Charles Blundell",
        "NeurIPS",
        2017,
        "https://arxiv.org/abs/1612.01474",
    )
    examples = ("networks=2",)
    defense: bench.Defense = bench.param(CE(), "the defense that trains each network")
    networks: int = bench.param(3, "number of networks", low=2)

    def find_problem(self) -> str | None:
        if not self.defense.trains:
            return f"defense is {self.defense}, which gives one network whatever the seed; give one that trains"
        return None

    def refuse(self, case: bench.Case) -> str | None:
        return self.defense.refuse(case)

    def build(self, model: bench.Model, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return MeanLogits(self.defense.build(model, shape, classes) for _ in range(self.networks))

    def train(self, fit: bench.Fit) -> nn.Module:
        first = self.networks * fit.seed
        return MeanLogits(fit.trained_by(self.defense, seed) for seed in range(first, first + self.networks))


class MeanLogits(nn.Module):
    """The mean of the logits of some networks."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([network(images) for network in self.networks]).mean(0)
