"""Networks of the zoo in a run: the cases that trained them, and their weights in the store."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from bench.components import Case, Defense, Model, data_dir, freeze_files
from bench.engine.catalog import Catalog, installed
from bench.engine.evidence import VOCABULARY
from bench.engine.graph import COST, TENSORS
from bench.engine.phases import Phase
from bench.engine.store import SPEC, Store
from bench.engine.training import seeded
from bench.errors import BenchError
from bench.networks import load_tensors
from bench.zoo import MADE, Network, find_network, list_networks, read_tensors, read_weights


def load_model(name: str) -> nn.Module:
    """A trained network of the zoo, by its name: BOARD/DEFENSE, with /SEED or /KEY where there are several.

    It maps images in [0, 1], (B, C, H, W), to logits (B, K), and normalises inside. In eval mode, frozen. Raises
    UnknownName or BadValue for a name that no network, or several have; EnvironmentProblem where its file is missing.
    """
    entry = find_network(name)
    return build_network(entry, read_weights(entry, data_dir()), installed())


def build_network(entry: Network, raw: bytes, catalog: Catalog) -> nn.Module:
    """The network of an entry with the weights in a file. Raises BadValue where these are not those of its model."""
    about = f"weights of {entry.full_name}"
    model, defense = catalog.read("model", entry.axes["model"]), find_defense(entry, catalog)
    assert isinstance(model, Model)
    channels, height, width = entry.shape
    with seeded(0, "weights"):  # leaves the caller's generators alone
        build = functools.partial(defense.build, model) if defense else model.build
        network = build((channels, height, width), entry.classes)
    tensors = {name: torch.tensor(tensor) for name, tensor in read_tensors(raw, about).items()}
    load_tensors(network, tensors, about)
    return network.eval().requires_grad_(False)


def find_defense(entry: Network, catalog: Catalog) -> Defense | None:
    """The defense that trained the network of an entry; None for one of a plugin that is not installed."""
    with contextlib.suppress(BenchError):
        defense = catalog.read("defense", entry.axes["defense"])
        assert isinstance(defense, Defense)
        return defense
    return None


@freeze_files()
def settle(cases: Sequence[Case], catalog: Catalog, reference: str) -> tuple[list[Case], list[Network]]:
    """Put the case that trained a network in the place of one whose defense loads it from the zoo.

    Returns the cases, and the networks whose weights they take from the zoo: these, and where it has them also those of
    the reference row and those that attacks use. Without a network of the zoo among the cases, there is none.
    """
    if not any(case.defense.pretrained for case in cases):
        return list(cases), []
    entries = {network.key: network for network in list_networks()}
    settled, networks = [], dict[str, Network]()
    for case in cases:
        own = _find_own(case, catalog)
        settled.append(own)
        used = {*own.attack.sources(own.defense), *([own.defense] if str(own.defense) == reference else [])}
        for key in [_key(dataclasses.replace(own, defense=defense)) for defense in used]:
            if key in entries:
                networks[key] = entries[key]
        if own is not case and case.defense.pretrained:
            networks[case.defense.pretrained.key] = case.defense.pretrained
    return settled, list(networks.values())


def _find_own(case: Case, catalog: Catalog) -> Case:
    """The case that trained the network which a defense loads; the case itself where that has another key."""
    network = case.defense.pretrained
    defense = find_defense(network, catalog) if network else None
    if network is not None and defense is not None:
        with contextlib.suppress(BenchError):
            own = dataclasses.replace(case, defense=defense)
            if _key(own) == network.key:
                return own
    return case


def _key(case: Case) -> str:
    return VOCABULARY.spec(MADE, (MADE,), case).key


def place_networks(networks: Iterable[Network], store: Store, catalog: Catalog) -> None:
    """Put the weights of networks of the zoo into a store that lacks them, as a training would."""
    for entry in networks:
        if store.read(MADE, entry.key, (TENSORS, COST)) is None:
            raw = read_weights(entry, data_dir())
            build_network(entry, raw, catalog)
            phases = [Phase(**{"peak_bytes": None, **phase}).as_row() for phase in entry.cost]
            files = {TENSORS: raw, COST: json.dumps(phases, indent=1).encode(), SPEC: entry.spec.encode()}
            store.write(MADE, entry.key, files)
