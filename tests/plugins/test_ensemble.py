"""Ensembles: what their networks are, and whose."""

from __future__ import annotations

import pytest
import torch
from bench_defenses.ensemble import MeanLogits
from torch.testing import assert_close

import bench
from bench.engine import VOCABULARY, build_network
from bench.engine.graph import Graph, Memory
from bench.gradients import input_gradient
from bench.publishing.export import read_stored
from bench.testing import tiny_images, tiny_network

SMALL = {"schedule": ["quick:epochs=1,batch=8,limit=16"], "samples": ["2"], "reference": False}


def network_of(case, store):
    return Graph(VOCABULARY, case, store, torch.device("cpu"), Memory()).get("network")


def test_networks_are_those_of_plain_rows_with_other_seeds(tiny_run, catalog, store):
    ensemble = tiny_run(defense=["ensemble:networks=2"], seed=["1"], metric=["train_passes"], **SMALL)
    assert len(list(store.list_folders("trained"))) == 3

    plain = tiny_run(defense=["ce"], seed=["2", "3"], metric=["train_passes"], **SMALL)
    assert len(list(store.list_folders("trained"))) == 3
    (passes,) = (record.value for record in ensemble.records.values())
    assert passes == sum(record.value for record in plain.records.values())

    (case,) = (cell.case for cell in ensemble.cells)
    cases = {cell.case.seed: cell.case for cell in plain.cells}
    images = torch.rand(3, *case.dataset.load("test").shape)
    members = torch.stack([network_of(cases[seed], store)(images) for seed in (2, 3)])
    assert not torch.equal(members[0], members[1])
    assert_close(network_of(case, store)(images), members.mean(0))
    entry, raw = read_stored([case], store, "accuracy")
    assert_close(build_network(entry, raw, catalog)(images), members.mean(0))


@pytest.mark.slow
def test_ensembles_are_attacked_explained_and_trained_again(tiny_run):
    metrics = ["topk_overlap", "randomization:depths=1", "label_randomization"]
    options = {**SMALL, "explainer": ["gradient", "lrp", "gradcam"]}
    outcome = tiny_run(defense=["ensemble:networks=2"], metric=metrics, **options)
    assert not outcome.failures and len(outcome.records) == 9


def test_the_gradient_is_the_mean_of_the_networks_gradients():
    images, targets = tiny_images(3)
    networks = [tiny_network(True, seed=seed) for seed in range(3)]
    expected = torch.stack([input_gradient(network, images, targets) for network in networks]).mean(0)
    assert_close(input_gradient(MeanLogits(networks), images, targets), expected)


def test_an_ensemble_of_one_network_is_refused():
    with pytest.raises(bench.BadValue, match="defense is weights, which gives one network whatever the seed; give one"):
        bench.component("defense", "ensemble:defense=(weights)")
    with pytest.raises(bench.BadValue, match="networks is 1, must be a whole number of at least 2"):
        bench.component("defense", "ensemble:networks=1")


@pytest.mark.parametrize("text", ["passive_fooling", "active_fooling", "backdoor", "fairwashing", "atex"])
def test_what_copies_its_teacher_refuses_an_ensemble(text, tiny_case):
    defense = bench.component("defense", f"{text}:teacher=(ensemble:networks=2)")
    expected = "the network of ensemble:networks=2 is not the model's; give a teacher that trains the model itself"
    assert defense.refuse(tiny_case) == expected
