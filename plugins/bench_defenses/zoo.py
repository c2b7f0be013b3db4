"""Load networks that others have trained, by their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import bench
from bench import zoo
from bench.networks import load_tensors


@dataclass(frozen=True)
class Zoo(bench.Defense):
    """Train nothing: load a network of the zoo (`bench zoo list`).

    Options of a run that are left out are those that the network was trained with. Where the case trains that very
    network, with the same versions of everything, it is the network's own case, and shares all values with it.
    Elsewhere, as on another data set, the weights are part of the identity.
    """

    name = "zoo"
    trains = False
    examples = ()
    network: str = bench.param(help="BOARD/DEFENSE, with /SEED or /KEY where there are several")

    @property
    def pretrained(self) -> zoo.Network:
        return zoo.find_network(self.network)

    @property
    def identity(self) -> str:
        return f"{super().identity}#{self.pretrained.sha256[:16]}"

    def find_problem(self) -> str | None:
        zoo.find_network(self.network)  # raises where there is none
        return None

    def refuse(self, case: Any) -> str | None:
        model = self.pretrained.axes["model"]
        if str(case.model) == model:
            return None
        return f"{self.network} is of model {model}, not {case.model}; choose that model"

    def train(self, fit: bench.Fit) -> nn.Module:
        network, about = fit.fresh(), f"weights of {self.network}"
        tensors = zoo.read_tensors(zoo.read_weights(self.pretrained, bench.data_dir()), about)
        load_tensors(network, {name: torch.tensor(tensor) for name, tensor in tensors.items()}, about)
        return network
