"""Keys follow from names: what a value is made from, and nothing else."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction

import pytest
import torch

import bench
from bench.axes import AXES
from bench.components.case import Case, cases
from bench.engine.evidence import VOCABULARY
from bench.engine.graph import Graph, Memory, Vocabulary, dependencies, value
from bench.engine.store import pack_tensors


@pytest.fixture
def graph(tiny_case, store):
    def of(case=tiny_case, vocabulary=VOCABULARY):
        return Graph(vocabulary, case, store, torch.device("cpu"), Memory())

    return of


def keys(graph):
    return {name: graph.key(name) for name in VOCABULARY.values}


REACHED = {
    "train_data": "dataset",
    "trained": "dataset model defense schedule seed",
    "images": "dataset split samples",
    "clean_logits": "dataset split samples model defense schedule seed",
    "clean_maps": "dataset split samples model defense schedule seed explainer target",
    "attack_run": "dataset split samples model defense schedule seed surrogate attack ball target",
    "kept": "dataset split samples model defense schedule seed surrogate attack ball target",
    "attacked_maps": "dataset split samples model defense schedule seed explainer surrogate attack ball target",
    "training": "dataset model defense schedule seed",
}


@pytest.mark.parametrize("name", REACHED)
def test_a_value_depends_on_the_axes_that_its_names_reach(name):
    assert VOCABULARY.reach((name,))[0] == frozenset(REACHED[name].split())


OTHER = {
    "split": "validation",
    "seed": 1,
    "ball": bench.Ball("linf", Fraction(1, 255)),
    "target": "label",
    "samples": 12,
    "model": "lenet:beta=4",
    "schedule": "quick:epochs=2",
    "defense": "l2",
    "explainer": "smoothgrad",
    "surrogate": "smoothgrad",
    "attack": "uniform_noise",
    "dataset": "shapes:size=40",
}


@pytest.mark.parametrize("axis", AXES)
def test_a_key_moves_with_the_axes_reached_and_no_other(axis, graph, tiny_case, catalog):
    choice = OTHER[axis]
    if axis in tiny_case.components:
        choice = catalog.read("explainer" if axis == "surrogate" else axis, choice)
    before, after = keys(graph()), keys(graph(dataclasses.replace(tiny_case, **{axis: choice})))
    for name in VOCABULARY.values:
        assert (before[name] != after[name]) == (axis in VOCABULARY.reach((name,))[0]), name


def test_a_key_is_the_checksum_of_a_text_that_names_versions_and_identities(graph, tiny_case):
    made, versions, chosen = json.loads(graph().spec("clean_maps"))
    assert made == "clean_maps" and versions["trained"] == 2 and "attack_run" not in versions
    assert chosen["defense"] == "defense/ce@1()" and chosen["samples"] == "10"


def test_a_new_version_along_the_path_makes_a_new_key(graph):
    newer = [
        dataclasses.replace(v, version=v.version + 1) if name == "trained" else v
        for name, v in VOCABULARY.values.items()
    ]
    before, after = graph(), graph(vocabulary=Vocabulary(newer))
    for name in VOCABULARY.values:
        assert (before.key(name) != after.key(name)) == ("trained" in VOCABULARY.reach((name,))[1])


def test_unknown_evidence_is_named():
    def metric(self, clean_map):
        return clean_map

    with pytest.raises(bench.UnknownName, match=r"m names unknown evidence 'clean_map'; did you mean 'clean_maps'"):
        VOCABULARY.check("m", metric)
    assert dependencies(metric) == ("clean_map",)


def test_a_failure_is_not_tried_again(graph):
    tries = []

    @value(stored=True)
    def trained(seed):
        tries.append(seed)
        raise ValueError("no")

    one = graph(vocabulary=Vocabulary([trained]))
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            one.get("trained")
    assert tries == [0]


def test_a_stored_value_is_computed_once_and_comes_back_as_it_was(graph):
    calls = []

    @value(stored=True)
    def alone(seed, *, services):
        calls.append(seed)
        return torch.arange(3.0)[::2]

    @value(stored=True)
    def several(alone, *, services):
        return {"a": alone, "b": alone + 1}

    vocabulary = Vocabulary([alone, several])
    for _ in range(2):
        one = graph(vocabulary=vocabulary)
        assert torch.equal(one.get("several")["b"], torch.tensor([1.0, 3.0]))
        assert torch.equal(one.get("alone"), torch.tensor([0.0, 2.0]))
    assert calls == [0]


def test_choices_multiply_each_case_once(tiny_case, catalog):
    explainers = [catalog.read("explainer", name) for name in ("gradient", "random_map")]
    choices = {axis: [getattr(tiny_case, axis)] for axis in AXES if axis != "surrogate"}
    found = list(cases({**choices, "explainer": [*explainers, explainers[0]], "seed": [0, 1]}, explainers[0]))
    assert len(found) == 4
    assert {str(case.surrogate) for case in found} == {"gradient"}
    assert [str(c.explainer) for c in found] == ["gradient", "random_map"] * 2 or len({c.seed for c in found}) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "samples 0: at least one image is needed"),
        ({"split": "dev"}, "split 'dev': choose test or validation or train"),
        ({"target": "best"}, "target 'best': choose predicted, label, class:second or a class such as class:3"),
        ({"target": "class:03"}, "target 'class:03': choose predicted"),
        ({"seed": -1}, "seed -1: must be 0 or more"),
    ],
)
def test_an_impossible_case_is_named(tiny_case, change, message):
    with pytest.raises(bench.BadValue, match=message):
        dataclasses.replace(tiny_case, **change)


@pytest.mark.parametrize(("norm", "eps"), [("linf", Fraction(-1, 255)), ("linf", Fraction(8)), ("l2", Fraction(-1))])
def test_an_impossible_budget_is_named(norm, eps):
    with pytest.raises(bench.BadValue, match=f"eps {eps} is impossible: .* write a fraction such as 8/255"):
        bench.Ball(norm, eps)


def test_a_case_names_its_components(tiny_case):
    assert isinstance(tiny_case, Case)
    assert set(tiny_case.components) == {"dataset", "model", "schedule", "defense", "explainer", "surrogate", "attack"}


def test_a_process_that_was_overtaken_takes_what_the_other_computes(graph):
    tries = []

    @value(stored=True)
    def trained(seed, *, services):
        tries.append(seed)
        lock = services.checkpoints.place / "lock"
        lock.write_text('{"host": "elsewhere", "pid": 1}')  # as if this process had slept, and another had begun
        other = {"value.safetensors": pack_tensors({"value": torch.tensor([7.0])}), "cost.json": b"[]"}
        one.store.write("trained", one.key("trained"), {**other, "spec.json": one.spec("trained").encode()})
        lock.unlink()  # the other has finished
        services.checkpoints.save("train", {"weights": b"1"})
        return torch.tensor([5.0])

    one = graph(vocabulary=Vocabulary([trained]))
    assert one.get("trained").tolist() == [7.0] and tries == [0]
    assert not list(one.store.list_folders("partial"))


def test_targets_name_the_class_of_each_image(graph, tiny_case):
    def targets(text):
        return graph(dataclasses.replace(tiny_case, target=text)).get("targets").tolist()

    logits = graph().get("clean_logits").tolist()
    order = [sorted(range(10), key=lambda k, row=row: -row[k]) for row in logits]
    assert targets("predicted") == [row[0] for row in order]
    assert targets("class:second") == [row[1] for row in order]
    assert targets("class:7") == [7] * len(logits)
    with pytest.raises(
        bench.BadValue, match="target class:10: the network has 10 classes; choose from class:0 to class:9"
    ):
        targets("class:10")
