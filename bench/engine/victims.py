"""What the harness gives to an attack besides images."""

from __future__ import annotations

import functools

from torch import Tensor, nn

from bench.components import Data, Defense, Explainer, Prepared, Victim
from bench.engine.graph import Services

REFERENCES = 16  # training images whose maps an attack may aim at


def make_victim(
    network: nn.Module,
    surrogate: Explainer,
    prepared: Prepared,
    sources: tuple[nn.Module, ...],
    train_data: Data,
    images: Tensor,
    services: Services,
) -> Victim:
    """What an attack sees of a case."""
    known, train = references(train_data, images), functools.partial(trained_by, services)
    return Victim(network, surrogate, known, train, prepared, sources=sources)


def trained_by(services: Services, defense: Defense) -> nn.Module:
    """The network that another defense trains in the same case."""
    network: nn.Module = services.with_defense(defense).get("network")
    return network


def references(train_data: Data, images: Tensor) -> Tensor:
    """The training images whose maps an attack may aim at, the same for all; none where a set is for testing only."""
    if not len(train_data):
        return images[:0]
    return train_data.at(train_data.choice(min(REFERENCES, len(train_data)))).images.to(images.device)
