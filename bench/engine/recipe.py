"""How a case trains: the network of its defense, and networks on other data that some metrics ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bench.components import Data, Defense, Model, Schedule
from bench.engine.graph import Services
from bench.engine.phases import Phase
from bench.engine.training import Fit, TrainedBy


@dataclass(frozen=True)
class Recipe:
    """Data, model, schedule and seed of a training."""

    data: Data
    model: Model
    schedule: Schedule
    seed: int

    def fit(self, services: Services, trained_by: TrainedBy) -> Fit:
        """What a defense, or an explainer that learns, trains with."""
        return Fit(
            self.data,
            self.model,
            self.schedule,
            self.seed,
            services.device,
            services.checkpoints,
            services.log,
            trained_by,
        )

    def build(self, defense: Defense, weights: dict[str, Tensor], device: torch.device) -> nn.Module:
        """The network of a defense with these weights, in eval mode, frozen."""
        network = defense.build(self.model, self.data.shape, len(self.data.classes)).to(device)
        network.load_state_dict(weights)
        return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class Refit:
    """Trains as a case does, on other data of the same form.

    The store keeps the weights for the metric that asks, so that an interrupted run resumes. `spec_of` gives the spec
    from a name and evidence; `log` says what all trainings together cost.
    """

    recipe: Recipe
    defense: Defense
    services: Services
    spec_of: Callable[[str, tuple[str, ...] | None], str] | None = None
    log: list[Phase] = field(default_factory=list)

    def __call__(
        self,
        data: Data,
        name: str,
        seed: int | None = None,
        using: tuple[str, ...] | None = None,
        model: Model | None = None,
        schedule: Schedule | None = None,
        defense: Defense | None = None,
    ) -> nn.Module:
        """Train on `data`; return the network in eval mode, frozen.

        `name` tells the trainings of one metric apart. The data must follow from the metric's parameters, the name, the
        training data and the evidence named in `using` (None: all that the metric asks for). Cases that differ
        elsewhere share the training. `seed`, and a `model`, `schedule` or `defense` that are parameters of the metric,
        replace the case's. A teacher is trained on the same data.
        """
        seed = self.recipe.seed if seed is None else seed
        model, schedule = model or self.recipe.model, schedule or self.recipe.schedule
        recipe = Recipe(data, model, schedule, seed)
        network, phases = self._train(defense or self.defense, recipe, f"{name}/{seed}", using)
        self.log.extend(phases)
        return network

    def for_metric(self, spec_of: Callable[[str, tuple[str, ...] | None], str]) -> Refit:
        """The same with the specs of a metric, and an empty log."""
        return dataclasses.replace(self, spec_of=spec_of, log=[])

    def _train(
        self, defense: Defense, recipe: Recipe, name: str, using: tuple[str, ...] | None
    ) -> tuple[nn.Module, list[Phase]]:
        assert self.spec_of is not None

        def trained_by(other: Defense, seed: int) -> tuple[nn.Module, list[Phase]]:
            inner = f"{name}/{other.identity}" if seed == recipe.seed else f"{name}/{other.identity}/{seed}"
            return self._train(other, dataclasses.replace(recipe, seed=seed), inner, using)

        def make(services: Services) -> dict[str, Tensor]:
            with torch.enable_grad():  # metrics are computed without
                return defense.train(recipe.fit(services, trained_by)).state_dict()

        weights, phases = self.services.store_extra("refit", self.spec_of(name, using), make)
        return recipe.build(defense, weights, self.services.device), phases
