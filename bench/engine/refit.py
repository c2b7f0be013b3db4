"""Trainings on other data, which some metrics ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bench.components.data import Data
from bench.components.kinds import Defense, Model, Schedule
from bench.engine.graph import Services
from bench.engine.phases import Phase
from bench.engine.training import Fit


def build_network(weights: dict[str, Tensor], model: Model, data: Data, device: torch.device) -> nn.Module:
    """The network with these weights for the images of some data, in eval mode, frozen."""
    network = model.build(data.shape, len(data.classes)).to(device)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class Refit:
    """Trains as a case does, on other data of the same form.

    The store keeps the weights for the metric that asks, so that an interrupted run resumes. `spec_of` gives the spec
    from a name and evidence; `log` says what all trainings together cost.
    """

    model: Model
    defense: Defense
    schedule: Schedule
    seed: int
    services: Services
    spec_of: Callable[[str, tuple[str, ...] | None], str] | None = None
    log: list[Phase] = field(default_factory=list)

    def __call__(
        self, data: Data, name: str, seed: int | None = None, using: tuple[str, ...] | None = None
    ) -> nn.Module:
        """Train on `data`; return the network in eval mode, frozen.

        `name` tells the trainings of one metric apart. The data must follow from the metric's parameters, the name, the
        training data and the evidence named in `using` (None: all that the metric asks for). Cases that differ
        elsewhere share the training. `seed` replaces the case's. A teacher is trained on the same data.
        """
        seed = self.seed if seed is None else seed
        network, phases = self._train(self.defense, data, f"{name}/{seed}", seed, using)
        self.log.extend(phases)
        return network

    def for_metric(self, spec_of: Callable[[str, tuple[str, ...] | None], str]) -> Refit:
        """The same with specs of a metric's own, and an empty log."""
        return dataclasses.replace(self, spec_of=spec_of, log=[])

    def _train(
        self, defense: Defense, data: Data, name: str, seed: int, using: tuple[str, ...] | None
    ) -> tuple[nn.Module, list[Phase]]:
        assert self.spec_of is not None

        def trained_by(other: Defense) -> tuple[nn.Module, list[Phase]]:
            return self._train(other, data, f"{name}/{other.identity}", seed, using)

        def make(services: Services) -> dict[str, Tensor]:
            fit = Fit(
                data, self.model, self.schedule, seed, services.device, services.checkpoints, services.log, trained_by
            )
            with torch.enable_grad():  # metrics are computed without
                return defense.train(fit).state_dict()

        weights, phases = self.services.store_extra("refit", self.spec_of(name, using), make)
        return build_network(weights, self.model, data, self.services.device), phases
