"""What a component of each kind promises, one file a kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.engine import Catalog
from bench.testing.contracts.attack import (
    attacks_images_independently,
    attacks_networks_of_strangers,
    lowers_its_objective,
    stays_in_the_ball,
)
from bench.testing.contracts.component import describes_itself, reads_back_from_its_text
from bench.testing.contracts.dataset import loads_images_and_labels
from bench.testing.contracts.defense import resumes_where_it_stopped, trains_all_weights_reproducibly
from bench.testing.contracts.explainer import (
    explains_images_independently,
    explains_networks_of_strangers,
    is_differentiable_as_declared,
    returns_valid_attributions,
)
from bench.testing.contracts.metric import (
    is_best_for_identical_maps,
    is_undefined_for_undefined_evidence,
    is_undefined_for_zero_maps,
    scores_images_independently,
)
from bench.testing.contracts.model import is_smooth_as_declared, maps_images_to_logits
from bench.testing.contracts.schedule import trains_a_network
from bench.testing.contracts.shared import ContractBroken

__all__ = ["CONTRACTS", "Contract", "ContractBroken"]

Contract = Callable[[Any, Catalog], None]

_OF_ALL: tuple[Contract, ...] = (reads_back_from_its_text, describes_itself)

# By kind. The names are printed by `bench check`.
CONTRACTS: dict[str, tuple[Contract, ...]] = {
    "dataset": (*_OF_ALL, loads_images_and_labels),
    "model": (*_OF_ALL, maps_images_to_logits, is_smooth_as_declared),
    "schedule": (*_OF_ALL, trains_a_network),
    "defense": (*_OF_ALL, trains_all_weights_reproducibly, resumes_where_it_stopped),
    "explainer": (
        *_OF_ALL,
        returns_valid_attributions,
        explains_images_independently,
        explains_networks_of_strangers,
        is_differentiable_as_declared,
    ),
    "attack": (
        *_OF_ALL,
        stays_in_the_ball,
        attacks_images_independently,
        attacks_networks_of_strangers,
        lowers_its_objective,
    ),
    "metric": (
        *_OF_ALL,
        scores_images_independently,
        is_best_for_identical_maps,
        is_undefined_for_zero_maps,
        is_undefined_for_undefined_evidence,
    ),
}
