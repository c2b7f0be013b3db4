"""What the harness gives to an attack besides images."""

from __future__ import annotations

import functools

from torch import Tensor, nn

from bench.components import Attack, Data, Defense, Explainer, Prepared, Victim
from bench.engine.graph import Services

REFERENCES = 16  # training images whose maps an attack may aim at


def make_victim(
    network: nn.Module,
    defense: Defense,
    surrogate: Explainer,
    prepared: Prepared,
    attack: Attack,
    train_data: Data,
    images: Tensor,
    services: Services,
) -> Victim:
    """What an attack sees of a case.

    The networks that it uses besides are trained here, before its clock starts: their cost stands beside their weights.
    """
    train = functools.partial(trained_by, services)
    sources = tuple(map(train, attack.sources(defense)))
    return Victim(network, surrogate, references(train_data, images), train, prepared, sources=sources)


def trained_by(services: Services, defense: Defense) -> nn.Module:
    """The network that another defense trains in the same case."""
    network: nn.Module = services.with_defense(defense).get("network")
    return network


def references(train_data: Data, images: Tensor) -> Tensor:
    """The training images whose maps an attack may aim at, the same for all; none where a set is for testing only."""
    if not len(train_data):
        return images[:0]
    return train_data.at(train_data.choice(min(REFERENCES, len(train_data)))).images.to(images.device)
