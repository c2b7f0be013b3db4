"""Parameters chosen on validation images: the grid, the guard, and that test images stay unseen before the choice."""

from __future__ import annotations

import json

import pytest

import bench
from bench.engine import grids
from bench.engine.cells import list_cells
from bench.engine.runner import Outcome
from bench.engine.selection import select
from bench.errors import BadValue

TINY = ("--schedule", "quick:epochs=1,batch=32,limit=64", "--attack", "topk:k=5,steps=2", "--samples", "10")
WATCHED = '''
from dataclasses import dataclass
from pathlib import Path

import torch

import bench


class Images:
    """Grey images of two shades; a file tells when those of the test split are read."""

    def __init__(self, split):
        self.split = split
        self.shape = (80, 3, 32, 32)

    def __len__(self):
        return 80

    def __getitem__(self, rows):
        if self.split == "test":
            Path("read").touch()
        rows = torch.as_tensor(rows)
        return (rows % 2 * 0.5 + 0.25)[:, None, None, None].expand(-1, 3, 32, 32).clone()


@dataclass(frozen=True)
class Watched(bench.Dataset):
    """Two shades of grey."""

    name = "watched"

    def load(self, split):
        return bench.Data(Images(split), torch.arange(80) % 2, ("dark", "bright"))


@bench.hookimpl
def bench_components():
    return [Watched]
'''


def made(catalog, values, seeds=("0",), metric="topk_overlap", better="higher"):
    """An outcome of one metric and accuracy for some defenses: `values` has both, a pair for each seed."""
    chosen = {"defense": list(values), "seed": list(seeds), "metric": [metric, "accuracy"], "split": ["validation"]}
    selection = select(catalog, chosen, False)
    outcome = Outcome(list_cells(catalog, selection.cases, selection.metrics))
    for cell in outcome.cells:
        pair = values[str(cell.case.defense)][seeds.index(str(cell.case.seed))]
        value = pair[cell.metric.name == "accuracy"]
        record = {"value": value, "better": better if cell.metric.name == metric else "higher"}
        if value != "failed":
            outcome.records[cell.key] = type("Record", (), record)()
    return outcome


def choose(catalog, values, guard=0.01, metric="topk_overlap", **more):
    found = grids.choose(
        made(catalog, values, metric=metric, **more),
        "defense",
        metric,
        "accuracy",
        bench.component("defense", "ce"),
        guard,
    )
    problems = {str(each.component): each.problem for each in found.candidates}
    return str(found.best.component) if found.best else None, problems


def test_the_best_that_loses_little_is_chosen(catalog):
    values = {
        "ce": [(0.2, 0.9)],
        "l2": [(0.4, 0.89)],
        "l2:weight=1.0": [(0.6, 0.88)],
        "cosd": [(0.3, 0.95)],
        "hessian": [(None, 0.9)],
        "ssr": [("failed", 0.9)],
    }
    best, problems = choose(catalog, values)
    assert best == "l2"
    assert problems == {
        "l2": "", "l2:weight=1.0": "loses 0.020", "cosd": "", "hessian": "no topk_overlap", "ssr": "no topk_overlap"
    }  # fmt: skip
    assert choose(catalog, values, guard=0.02)[0] == "l2:weight=1.0"
    del values["ce"]
    assert choose(catalog, values)[0] == "l2:weight=1.0"  # nothing to guard by
    assert choose(catalog, {"ce": [(0.2, 0.9)], "l2": [(0.4, 0.5)], "cosd": [(0.4, 0.4)]})[0] is None


def test_lower_may_be_better_and_means_are_over_seeds(catalog):
    values = {"l2": [(0.1, 0.9), (0.5, 0.9)], "cosd": [(0.2, 0.9), (0.3, 0.9)], "ssr": [(0.0, 0.9), (None, 0.9)]}
    assert choose(catalog, values, seeds=("0", "1"), metric="deletion", better="lower")[0] == "cosd"
    assert choose(catalog, values, seeds=("0", "1"))[0] == "l2"


def test_a_grid_has_every_combination(catalog):
    varied = grids.read_varied(["l2=0.1,1", "eps=4/255"])
    found = [str(each) for each in grids.expand(catalog, "defense", ["l2_cosd", "l2_cosd:cosine=0.5"], varied)]
    default = {str(bench.component("defense", f"l2_cosd:l2={weight},eps=4/255")) for weight in (0.1, 1)}
    half = {str(bench.component("defense", f"l2_cosd:l2={weight},eps=4/255,cosine=0.5")) for weight in (0.1, 1)}
    assert len(found) == len(set(found)) == 4 and set(found) == default | half
    assert grids.read_varied(["teacher=(ce),(l2:weight=1,eps=1/255)"]) == {
        "teacher": ["(ce)", "(l2:weight=1,eps=1/255)"]
    }


def test_test_images_are_read_after_the_choice_alone(bench_, install, tmp_path, monkeypatch):
    install("acme", {"acme_watched": WATCHED})
    monkeypatch.chdir(tmp_path)
    command = ("select", "--dataset", "watched", "--defense", "l2", "--vary", "weight=0.1,1", *TINY)
    # A metric without a value chooses nothing.
    code, out, err = bench_(*command, "--by", "mask_mass")
    assert code == 1 and "no defense of the grid can be chosen; widen the grid or the --guard" in err
    assert not (tmp_path / "read").exists()
    code, out, _ = bench_(*command, "--by", "topk_overlap", "--guard", "1", "--metric", "accuracy")
    grid, _, table = out.partition("\n\ndataset watched, split test")
    assert code == 0 and "on 10 validation images" in grid and "chosen" in grid and table
    assert (tmp_path / "read").exists()


@pytest.mark.slow
def test_the_choice_is_told_as_json_and_its_training_is_used_again(bench_, store):
    code, out, _ = bench_(
        "select", "--defense", "l2", "--vary", "weight=0.1,1", "--by", "topk_overlap", "--guard", "1", "--json",
        "--metric", "accuracy", *TINY,
    )  # fmt: skip
    found = json.loads(out)
    assert code == 0 and found["by"] == "topk_overlap" and found["reference"]["defense"] == "ce"
    assert found["chosen"] == max(found["grid"], key=lambda each: each["topk_overlap"])["defense"]
    assert {record["axes"]["split"] for record in found["records"]} == {"test"}
    assert {record["axes"]["defense"] for record in found["records"]} == {"ce", found["chosen"]}
    assert len(list((store.root / "trained").iterdir())) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--split", "test"), "--split test: select uses the validation split; leave it out"),
        (("--vary", "weight"), "--vary weight: write PARAMETER=VALUE,VALUE, such as l2=0.01,0.1, each parameter once"),
        (("--vary", "weight=1,"), "--vary weight=1,: write PARAMETER=VALUE,VALUE, such as"),
        (("--vary", "wieght=1,2"), "defense l2 has no parameter 'wieght'; did you mean 'weight'?"),
        ((), "one defense leaves nothing to choose; give several, or --vary PARAMETER=VALUE,VALUE"),
        (
            ("--over", "explainer", "--guard", "0.1"),
            "--guard 0.1 needs a reference row, and there is none for explainer",
        ),
        (
            ("--vary", "weight=1,2", "--by", "topk_overlp"),
            "no metric called 'topk_overlp'; did you mean 'topk_overlap'",
        ),
    ],
)
def test_what_cannot_be_selected_is_named(bench_, store, words, message):
    code, out, err = bench_("select", "--defense", "l2", "--by", "topk_overlap", *words)
    assert (code, out) == (2, "") and err.count("\n") == 1 and message in err and not store.root.exists()


def test_values_that_cannot_be_read_are_named():
    with pytest.raises(BadValue, match="--vary l2=1: write PARAMETER=VALUE"):
        grids.read_varied(["l2=2", "l2=1"])
