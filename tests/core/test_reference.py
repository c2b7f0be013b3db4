"""The generated pages of the site: what a component costs and refuses, by hand, and where links lead."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

import bench
from bench.components import KINDS

SPEC = importlib.util.spec_from_file_location("reference", Path(__file__).parents[2] / "docs" / "reference.py")
reference = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reference)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("gradient", (1, 1)),
        ("smoothgrad:samples=7", (7, 7)),
        ("integrated_gradients:steps=5", (5, 5)),
        ("occlusion:window=6,stride=6", (5, 0)),  # the image, and four windows of 12 x 12 pixels
        ("random_map", (0, 0)),
    ],
)
def test_passes_of_an_explainer_by_hand(text, passes):
    assert reference.count_explaining(bench.component("explainer", text)) == passes


def test_a_step_of_an_attack_is_a_forward_and_two_backward_passes():
    few, many = (reference.count_attacking(bench.component("attack", f"topk:steps={n}")) for n in (3, 5))
    assert (many[0] - few[0], many[1] - few[1]) == (2, 4)
    assert reference.count_attacking(bench.component("attack", "uniform_noise")) == (0, 0)


def test_passes_of_a_training_by_hand():
    assert reference.count_training(bench.component("defense", "ce")) == (8, 8)  # two epochs of four batches
    # Each batch is classified twice by the weights, and the attack takes two steps.
    assert sum(reference.count_training(bench.component("defense", "adversarial:steps=2"))) == 8 * 2 * 3


def test_what_is_refused_is_found_by_itself_and_in_pairs(catalog):
    texts = {
        "dataset": ["shapes", "cifar10"],
        "model": ["lenet", "lenet:activation=relu"],
        "defense": ["ce", "hessian", "harmonize"],
        "explainer": ["gradient", "random_map"],
        "attack": ["topk", "uniform_noise"],
        "metric": ["topk_overlap", "pointing_game"],
    }
    choices = {kind: [catalog.read(kind, text) for text in texts.get(kind, ())] for kind in KINDS}
    found = reference.find_refusals(catalog, choices)
    assert found == {
        ("defense", "harmonize"): ["by default: dataset shapes has no gaze; choose another data set."],
        ("attack", "topk"): [
            "beside `random_map`: it follows a gradient, and that of this surrogate is zero; choose another surrogate."
        ],
        ("defense", "hessian"): [
            "beside `lenet:activation=relu`: the second derivative of this model is zero; choose a smooth model, "
            "such as activation=softplus."
        ],
        ("metric", "pointing_game"): ["beside `cifar10`: it has no object masks; choose another data set."],
    }


def test_a_section_says_what_a_component_takes_costs_and_comes_from(catalog):
    text = "\n\n".join(reference.describe(catalog.find("defense", "cosd"), ["by default: a reason."]))
    assert (
        "| `eps` | `4/255` |" in text and "times that of `ce`" in text and "**Refused** by default: a reason." in text
    )
    assert "    booktitle = {AAAI}" in text and "(https://doi.org/10.1609/aaai.v37i7.25986)" in text
    text = "\n\n".join(reference.describe(catalog.find("metric", "kept_rate"), []))
    assert "Higher is better: " in text and "Made from `kept`." in text


def test_links_out_of_the_docs_lead_to_the_boards_and_to_the_repository():
    page = "[a](../../leaderboards/shapes/README.md#x) [b](../../canaries) [c](../where.md) [d](https://x.org) [e](#y)"
    assert reference.resolve_links(page, "how-to/zoo.md", "https://site/") == (
        f"[a](https://site/leaderboards/shapes/#x) [b]({reference.REPOSITORY}/canaries) [c](../where.md) "
        "[d](https://x.org) [e](#y)"
    )


@pytest.mark.slow
def test_every_component_and_command_has_a_section(catalog):
    pages = reference.make_pages(catalog)
    for kind in KINDS:
        for name in catalog.of(kind):
            assert f"\n## `{name}`\n" in pages[f"reference/{kind}s.md"]
    for command in ("bench run", "bench leaderboard verify", "bench zoo list"):
        assert f"# `{command}`\n" in pages["reference/commands.md"]
