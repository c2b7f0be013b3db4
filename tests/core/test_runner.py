"""From cases and metrics to records."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil

import numpy as np
import pyarrow.parquet
import pytest
import torch

import bench
from bench.axes import AXES
from bench.boards.record import Record
from bench.boards.statistics import mean, summarise
from bench.engine import catalog as catalogs
from bench.engine.chunks import chunked
from bench.engine.evidence import VOCABULARY
from bench.engine.graph import dependencies
from bench.engine.plan import make_plan
from bench.engine.report import group_reasons
from bench.engine.runner import open_store, read_records
from bench.engine.store import Store
from bench.errors import explain_failure


def test_a_run_gives_a_record_for_every_metric_that_the_axes_reach(tiny_run):
    outcome = tiny_run(metric=["accuracy", "topk_overlap", "train_time"], attack=["topk:k=5,steps=1", "uniform_noise"])
    records = {(r.metric, r.axes.get("attack")): r for r in outcome.records.values()}
    assert set(records) == {
        ("accuracy", None),
        ("train_time", None),
        ("topk_overlap", "topk:k=5,steps=1"),
        ("topk_overlap", "uniform_noise"),
    }
    accuracy, overlap = records["accuracy", None], records["topk_overlap", "uniform_noise"]
    assert accuracy.n == overlap.n == 10 and accuracy.kept is None and 0 <= overlap.kept <= 10
    assert "ball" not in accuracy.axes and overlap.axes["ball"] == "linf:8/255"
    assert records["train_time", None].ci95 is None and records["train_time", None].unit == "s"
    assert set(overlap.cost) == {"trained", "clean_attributions", "attack_run", "attacked_attributions"}
    assert overlap.command.startswith("bench run --dataset shapes --split test --model lenet")
    assert "--eps 8/255 --norm linf" in overlap.command and overlap.command.endswith("--metric topk_overlap")
    assert overlap.provenance["plugins"]["metric topk_overlap"] == "robust-explanation-bench 0.1.0"


def test_a_run_again_computes_nothing_and_gives_the_same(tiny_run, monkeypatch):
    first = tiny_run(metric=["accuracy", "spearman"])
    monkeypatch.setattr("bench.engine.executors.compute_record", None)
    again = tiny_run(metric=["accuracy", "spearman"])
    assert [r.line() for r in first.records.values()] == [r.line() for r in again.records.values()]


def test_values_of_each_image_lie_beside_the_record(tiny_run, store):
    outcome = tiny_run(metric=["topk_overlap"])
    (record,) = outcome.records.values()
    table = pyarrow.parquet.read_table(store.folder("record", record.key) / "values.parquet").to_pydict()
    assert set(table) == {"key", "image", "level", "value", "kept"} and set(table["key"]) == {record.key}
    assert len(set(table["image"])) == 10 and max(table["image"]) > 10
    assert math.fsum(table["value"]) / 10 == pytest.approx(record.value)
    kept = [v for v, k in zip(table["value"], table["kept"], strict=True) if k]
    assert record.value_kept == pytest.approx(np.mean(kept))


def test_a_record_is_strict_json_and_reads_back(tiny_run):
    (record,) = tiny_run(metric=["accuracy"]).records.values()
    assert Record.parse(record.line()) == record
    assert json.loads(record.line())["axes"]["defense"] == "ce"
    with pytest.raises(ValueError, match="Out of range float"):
        dataclasses.replace(record, value=float("nan")).line()


def test_a_damaged_value_is_computed_again(tiny_run, store, warnings_told):
    first = tiny_run(metric=["topk_overlap"])
    (record,) = first.records.values()
    for name in ("record", "trained"):
        for folder in store.list_folders(name):
            for file in folder.glob("*.*"):
                file.write_bytes(file.read_bytes()[:-9] + b"corrupted")
    again = tiny_run(metric=["topk_overlap"])
    assert [r.value for r in again.records.values()] == [record.value]
    assert sum("is damaged" in text for text in warnings_told) >= 1


PLUGIN = """
from dataclasses import dataclass
import torch
import bench

@bench.hookimpl
def bench_components():
    attacks = [Wrong, Short, Far, InPlace, Double, Hollow]
    return [NaN, *attacks, Blank, Moved, Drawn, DrawnBySeed, Endless, Sum, Beyond, Uneven, Levelled, Nothing, Half]

@bench.hookimpl
def bench_refuse(case, used):
    if "attack" in used and used["attack"].name == "far" and case.seed == 7:
        return "seven is reserved"

@bench.hookimpl
def bench_recorded(record):
    logged.append(record.metric)

logged = []

@dataclass(frozen=True)
class NaN(bench.Defense):
    '''A loss that turns NaN.'''
    name = "nan"
    def train(self, fit):
        count = []
        def loss(network, batch):
            count.append(1)
            return network(batch.images).sum() * (float("nan") if len(count) == 2 else 1)
        return fit.minimise(fit.fresh(), loss)

@dataclass(frozen=True)
class Wrong(bench.Attack):
    '''Raises an error of its own.'''
    name = "wrong"
    def perturb(self, victim, images, targets, ball):
        return {}["nothing"]

@dataclass(frozen=True)
class Short(bench.Attack):
    '''Loses an image.'''
    name = "short"
    def perturb(self, victim, images, targets, ball):
        return images[1:]

@dataclass(frozen=True)
class InPlace(bench.Attack):
    '''Works on what it is given.'''
    name = "in_place"
    def perturb(self, victim, images, targets, ball):
        victim.network.train().requires_grad_(True)
        targets.zero_()
        return images.add_(0.5).clamp_(0, 1)

@dataclass(frozen=True)
class Double(bench.Attack):
    '''Returns another type.'''
    name = "double"
    def perturb(self, victim, images, targets, ball):
        return images.double()

@dataclass(frozen=True)
class Hollow(bench.Attack):
    '''Returns no numbers.'''
    name = "hollow"
    def perturb(self, victim, images, targets, ball):
        return images * torch.nan

@dataclass(frozen=True)
class Blank(bench.Explainer):
    '''Gives no numbers.'''
    name = "blank"
    def attribute(self, network, images, targets):
        return images * torch.nan

@dataclass(frozen=True)
class Moved(bench.Metric):
    '''How far images moved.'''
    name = "moved"
    help = "largest change of a pixel"
    def __call__(self, images, attacked_images):
        return (images - attacked_images).abs().amax((1, 2, 3))

@dataclass(frozen=True)
class Drawn(bench.Metric):
    '''Draws its values.'''
    name = "drawn"
    help = "random"
    def __call__(self, images):
        return torch.rand(len(images))

@dataclass(frozen=True)
class DrawnBySeed(bench.Metric):
    '''Draws its values anew for each seed.'''
    name = "drawn_by_seed"
    help = "random"
    def __call__(self, images, seed):
        return torch.rand(len(images))

@dataclass(frozen=True)
class Endless(bench.Metric):
    '''A number that is none.'''
    name = "endless"
    help = "infinite"
    def __call__(self, images):
        return float("inf")

@dataclass(frozen=True)
class Far(bench.Attack):
    '''Forgets its budget.'''
    name = "far"
    shift: float = bench.param(9.0, "added to every pixel")
    def perturb(self, victim, images, targets, ball):
        return images + self.shift
    def refuse(self, case):
        return "not for labels" if case.target == "label" else None

@dataclass(frozen=True)
class Sum(bench.Metric):
    '''Infinite.'''
    name = "infinite"
    help = "infinite"
    def __call__(self, clean_maps):
        return clean_maps.sum((1, 2)) / 0

@dataclass(frozen=True)
class Beyond(bench.Metric):
    '''More than its range says.'''
    name = "beyond"
    range = (0.0, 1.0)
    help = "beyond"
    def __call__(self, kept):
        return kept.double() + 1

@dataclass(frozen=True)
class Uneven(bench.Metric):
    '''Off its grain.'''
    name = "uneven"
    grain = 0.5
    help = "uneven"
    def __call__(self, kept):
        return 0.3 * kept.double()

@dataclass(frozen=True)
class Levelled(bench.Metric):
    '''Two levels.'''
    name = "levelled"
    help = "two levels"
    def __call__(self, clean_maps):
        top = clean_maps.flatten(1).max(1).values
        return bench.Levels(torch.stack([top, top * 3], 1), ("one", "three"))

@dataclass(frozen=True)
class Nothing(bench.Metric):
    '''No value.'''
    name = "nothing"
    help = "no value"
    def __call__(self, labels):
        return bench.Undefined("there is nothing to measure")

@dataclass(frozen=True)
class Half(bench.Metric):
    '''Undefined for the odd rows.'''
    name = "half"
    help = "half"
    def __call__(self, kept):
        return torch.where(torch.arange(len(kept)) % 2 == 0, 0.5, torch.nan)
"""


@pytest.fixture
def plugged(install):
    install("acme", {"acme_plugin": PLUGIN})
    return catalogs.load()


def failures(outcome):
    return sorted({explain_failure(error) for error in outcome.failures.values()})


def test_a_defense_whose_loss_turns_nan_fails_alone(tiny_run, plugged):
    outcome = tiny_run(plugged, defense=["nan"], metric=["accuracy", "train_time"])
    assert failures(outcome) == [
        "the loss is nan at step 2 of epoch 1 (train); lower the schedule's rate or the weight of the regulariser"
    ]
    assert len(outcome.failures) == 2 and outcome.exit_code == 1
    assert {r.axes["defense"] for r in outcome.records.values()} == {"ce"} and len(outcome.records) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attack": ["wrong"], "metric": ["kept_rate"]}, "KeyError: 'nothing', acme_plugin.py:"),
        (
            {"attack": ["short"], "metric": ["kept_rate"]},
            "attack short returned (9, 3, 32, 32) for images (10, 3, 32, 32); return that shape",
        ),
        (
            {"attack": ["double"], "metric": ["kept_rate"]},
            "attack double returned torch.float64 for images in torch.float32; return that type",
        ),
        (
            {"attack": ["hollow"], "metric": ["kept_rate"]},
            "attack hollow returned images with NaN or infinity; keep the last finite ones",
        ),
        (
            {"explainer": ["blank"], "metric": ["sparsity"]},
            "explainer blank returned NaN or infinity; return zeros where it is undefined",
        ),
        ({"metric": ["endless"]}, "metric endless returned infinite values; return nan where it is undefined"),
        ({"attack": ["far:shift=nan"], "metric": ["kept_rate"]}, "shift is nan, must be a number"),
        ({"metric": ["beyond"]}, "metric beyond returned 2, outside its range (0.0, 1.0); correct one of them"),
        (
            {"metric": ["uneven"]},
            "metric uneven returned 0.3, which is no multiple of its grain 0.5; correct one of them",
        ),
        ({"metric": ["infinite"]}, "metric infinite returned infinite values; return nan where it is undefined"),
        ({"metric": ["topk_overlap:k=1025"]}, "topk_overlap: k is 1025, but the maps have 1024 pixels; lower k"),
        (
            {"attack": ["topk:k=1025"], "metric": ["kept_rate"]},
            "topk: k is 1025, but the maps have 1024 pixels; lower k",
        ),
        ({"samples": ["1025"], "metric": ["accuracy"]}, "1025 samples requested, but the split has 1024"),
    ],
)
def test_a_cell_that_fails_says_why_and_the_others_go_on(tiny_run, plugged, options, message):
    if "nan" in str(options):
        with pytest.raises(bench.BadValue, match=message):
            tiny_run(plugged, **options)
        return
    outcome = tiny_run(plugged, **{**options, "metric": [*options["metric"], "train_time"]})
    assert len(outcome.failures) == 1 and message in failures(outcome)[0]
    assert [r.metric for r in outcome.records.values()] == ["train_time"]
    assert outcome.exit_code == (3 if "samples" in options else 1)


def test_whatever_an_attack_returns_is_projected(tiny_run, plugged, store):
    outcome = tiny_run(plugged, attack=["far"], metric=["kept_rate"])
    assert not outcome.failures
    (folder,) = store.list_folders("attack_run")
    import safetensors.torch

    images = safetensors.torch.load_file(folder / "value.safetensors")["images"]
    clean = bench.component("dataset", "shapes").load("test")
    clean = clean.images[clean.choice(10)]
    assert float((images - clean).abs().max()) <= 8 / 255 + 1e-6 and images.max() <= 1


@pytest.mark.slow
def test_what_an_attack_does_in_place_reaches_nobody_else(tiny_run, plugged):
    alone = tiny_run(plugged, metric=["topk_overlap"])
    outcome = tiny_run(plugged, attack=["in_place", "topk:k=5,steps=3"], metric=["moved", "topk_overlap"])
    found = {(r.metric, r.axes["attack"]): r for r in outcome.records.values()}
    assert found["moved", "in_place"].value == pytest.approx(8 / 255, abs=1e-6)
    after = tiny_run(plugged, attack=["in_place", "topk:k=5,steps=2"], metric=["topk_overlap"])
    assert [r.value for r in alone.records.values()] == [list(after.records.values())[1].value]


@pytest.fixture
def draw(tiny_run, plugged, tmp_path):
    """Scores of metrics that draw, by metric and seed, computed in a store of their own."""

    def draw(name, seeds):
        outcome = tiny_run(
            plugged, into=Store(tmp_path / name, print), seed=seeds, metric=["drawn", "drawn_by_seed"], reference=False
        )
        return {(r.metric, r.axes.get("seed")): r.value for r in outcome.records.values()}

    return draw


def test_a_score_draws_by_what_its_key_holds(draw):
    scores = draw("store", ["0", "1"])
    assert set(scores) == {("drawn", None), ("drawn_by_seed", "0"), ("drawn_by_seed", "1")}
    assert len(set(scores.values())) == 3


def test_a_score_draws_the_same_whatever_was_drawn_before(draw):
    first = draw("first", ["1", "0"])
    torch.rand(3)
    again = draw("again", ["0"])
    assert len(again) == 2 and again.items() <= first.items()


def test_the_key_of_a_score_under_attack_holds_what_says_who_is_kept(tiny_run):
    outcome = tiny_run(metric=["topk_overlap", "accuracy"])
    versions = {r.metric: set(json.loads(r.spec)[1]) for r in outcome.records.values()}
    assert {"kept", "attacked_logits"} <= versions["topk_overlap"] and "kept" not in versions["accuracy"]


def test_a_damaged_cost_is_computed_again_and_never_zero(tiny_run, store, warnings_told):
    tiny_run(metric=["train_time"])
    for folder in (*store.list_folders("trained"), *store.list_folders("record")):
        for file in (*folder.glob("cost.json"), *folder.glob("record.json")):
            file.write_bytes(b"[")
    (record,) = tiny_run(metric=["train_time"]).records.values()
    assert record.value > 0 and sum("trained" in text and "computed again" in text for text in warnings_told) == 1


def test_an_attack_that_needs_a_gradient_refuses_an_explainer_without(tiny_run):
    outcome = tiny_run(surrogate=["random_map"], metric=["kept_rate"])
    assert [c.refusal for c in outcome.cells] == [
        "attack topk: it follows a gradient, and that of random_map is zero; choose another surrogate"
    ]


def test_refusals_are_not_computed(tiny_run, plugged):
    outcome = tiny_run(plugged, attack=["far"], target=["label"], metric=["kept_rate", "accuracy"])
    refused = [c.refusal for c in outcome.cells if c.refusal]
    assert refused == ["attack far: not for labels"]
    assert [r.metric for r in outcome.records.values()] == ["accuracy"] and outcome.exit_code == 0
    outcome = tiny_run(plugged, attack=["far"], seed=["7"], metric=["kept_rate"])
    assert [c.refusal for c in outcome.cells] == ["seven is reserved"] and not outcome.records


def test_a_hook_that_fails_costs_nothing(tiny_run, install, warnings_told):
    install("acme", {"acme_plugin": PLUGIN.replace("logged.append(record.metric)", "record.nothing")})
    outcome = tiny_run(catalogs.load(), metric=["accuracy"])
    assert len(outcome.records) == 1 and not outcome.failures
    assert "the hook bench_recorded failed (AttributeError" in warnings_told[0] and "is kept" in warnings_told[0]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("not for labels", {"target": ["label"]}, r"refuse of attack far failed \(ZeroDivisionError"),
        ("seven is reserved", {"seed": ["7"]}, r"the hook bench_refuse failed \(ZeroDivisionError"),
    ],
)
def test_a_refusal_that_fails_is_named(tiny_run, install, text, options, message):
    install("acme", {"acme_plugin": PLUGIN.replace(f'return "{text}"', "return 1 / 0")})
    with pytest.raises(bench.PluginError, match=message):
        tiny_run(catalogs.load(), attack=["far"], metric=["kept_rate"], **options)


UNCLEAR = """
from dataclasses import dataclass
import bench

@dataclass(frozen=True)
class Unclear(bench.Dataset):
    name = "unclear"
    identity = "dataset/unclear@1()"
    @property
    def provides(self):
        raise {error}
    def load(self, split):
        raise AssertionError("never loaded")

@bench.hookimpl
def bench_components():
    return [Unclear]
"""


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        ("KeyError('masks')", bench.PluginError, r"provides of dataset unclear failed \(KeyError: 'masks'"),
        ("bench.EnvironmentProblem('no disk')", bench.EnvironmentProblem, "^no disk$"),
    ],
)
def test_a_data_set_that_cannot_say_what_it_provides_is_blamed_itself(tiny_run, install, error, raised, message):
    install("acme", {"acme_plugin": UNCLEAR.format(error=error)})
    with pytest.raises(raised, match=message):
        tiny_run(catalogs.load(), dataset=["unclear"], metric=["accuracy"])


def test_a_user_without_a_home_is_told_to_name_a_store(monkeypatch):
    monkeypatch.delenv("BENCH_STORE")
    monkeypatch.setenv("HOME", "~")  # what a user without an entry has
    with pytest.raises(bench.StoreError, match="this user has no home folder; name another place with --store or"):
        open_store(None, print)


def test_an_attack_on_another_explainers_gradient_is_marked(tiny_run):
    outcome = tiny_run(explainer=["random_map"], metric=["cosine", "kept_rate"])
    flags = {r.metric: r.flags for r in outcome.records.values()}
    blank = (  # drawn under the same noise, maps of different images and classes are the same
        "the map hardly depends on the image: maps of different images share 1.000 of their top 20 pixels",
        "the map does not depend on the class explained: maps of two classes share 1.000 of their top 20 pixels",
    )
    assert flags == {"cosine": ("transfer: the attack followed gradient", *blank), "kept_rate": ()}
    for blind in ("uniform_noise", "pgd:steps=2"):  # which follow no map
        outcome = tiny_run(explainer=["random_map"], attack=[blind], metric=["cosine"])
        assert [r.flags for r in outcome.records.values()] == [blank]


DETACHED = """
from dataclasses import dataclass
import bench
from bench.gradients import input_gradient

@dataclass(frozen=True)
class Detached(bench.Explainer):
    '''Input times gradient, whose second derivative lacks a term, as in a library that many use.'''
    name = "detached"
    differentiable = True
    def attribute(self, network, images, targets):
        return images * input_gradient(network, images, targets).detach()

@bench.hookimpl
def bench_components():
    return [Detached]
"""


@pytest.mark.slow
def test_an_attack_on_a_wrong_gradient_is_flagged(tiny_run, install):
    install("acme", {"acme_plugin": DETACHED})
    explainers = ["detached", "input_x_gradient"]
    outcome = tiny_run(catalogs.load(), explainer=explainers, attack=["topk:steps=20"], metric=["topk_overlap"])
    flags = {r.axes["explainer"]: r.flags for r in outcome.records.values()}
    assert flags["input_x_gradient"] == ()
    assert flags["detached"][0].startswith("gradient check failed: off by ")


ODD = """
from dataclasses import dataclass
import bench
from bench.gradients import input_gradient

@dataclass(frozen=True)
class Odd(bench.Explainer):
    name = "odd"
    differentiable = True
    def attribute(self, network, images, targets):
        found = input_gradient(network, images, targets)
        return found + (found - found).square().sum().sqrt()  # zero, whose derivative is not a number

@dataclass(frozen=True)
class Endless(bench.Attack):
    name = "endless"
    def perturb(self, victim, images, targets, ball):
        return images
    def make_objective(self, victim, images, targets):
        return lambda moved: victim.maps(moved, targets).amax((1, 2)) / 0.0

@bench.hookimpl
def bench_components():
    return [Odd, Endless]
"""


def test_what_is_not_finite_in_an_attack_is_told(tiny_run, install):
    install("acme", {"acme_plugin": ODD})
    found = catalogs.load()
    (record,) = tiny_run(found, explainer=["odd"], attack=["topk:steps=2"], metric=["topk_overlap"]).records.values()
    assert record.flags[:2] == ("nothing moved", "gradient check failed: it could not be computed")
    assert record.flags[2].startswith("attack beaten: a blind search leaves ")
    outcome = tiny_run(found, attack=["endless", "uniform_noise"], metric=["kept_rate"])
    assert failures(outcome) == [
        "attack endless has an objective that is not finite on the maps of gradient; use another surrogate"
    ]
    assert [record.axes["attack"] for record in outcome.records.values()] == ["uniform_noise"]


STRANGE = """
from dataclasses import dataclass
import torch
from torch import nn
import bench

class Spatial(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv = nn.Conv2d(3, classes, 3)
    def forward(self, images):
        return self.conv(images)

@dataclass(frozen=True)
class Strange(bench.Model):
    name = "strange"
    form: str = bench.param("spatial", "what is odd")
    def build(self, shape, classes):
        outputs = 1 if self.form == "one" else classes
        flat = nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], outputs))
        inner = Spatial(classes) if self.form == "spatial" else flat
        if self.form == "scripted":
            inner = torch.jit.script(inner)
        return bench.Normalised(inner, [0.5] * 3, [0.25] * 3)

@dataclass(frozen=True)
class Trained(bench.Defense):
    name = "untrained"
    def train(self, fit):
        return fit.fresh()

@dataclass(frozen=True)
class Holes(bench.Dataset):
    name = "holes"
    scale: float = bench.param(0.0, "of the pixels; 0 for one that is not a number")
    def load(self, split):
        images = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(len(split)))
        images[7, 0, 0, 0] = images[7, 0, 0, 0] if self.scale else float("nan")
        images = images * self.scale if self.scale else images
        return bench.Data(images, torch.arange(20) % 2, ("a", "b"))

@bench.hookimpl
def bench_components():
    return [Strange, Trained, Holes]
"""


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:the gradient that the attack follows is zero")
def test_networks_and_images_that_cannot_be_used_cost_their_own_cells_alone(tiny_run, install):
    install("acme", {"acme_plugin": STRANGE})
    found = catalogs.load()
    outcome = tiny_run(
        found,
        model=["strange", "strange:form=one", "strange:form=scripted", "strange:form=flat"],
        defense=["untrained"],
        metric=["topk_overlap"],
        reference=False,
    )
    assert sorted(failures(outcome)) == [
        "layer network is scripted, and its activations cannot be replaced; pass the network as it was before",
        "the network gives (10, 10, 30, 30) for 10 images; logits are (10, classes)",
        "the network has one class, so its predictions are never wrong or changed; use another",
    ]
    assert [record.axes["model"] for record in outcome.records.values()] == ["strange:form=flat"]
    holes = tiny_run(
        found,
        dataset=["holes", "holes:scale=255", "shapes"],
        model=["strange:form=flat"],
        defense=["untrained"],
        metric=["topk_overlap"],
        samples=["20"],
        reference=False,
    )
    nan, bytes_ = failures(holes)
    assert nan == "image 7 of the data set contains NaN or infinity; fix the data set"
    assert bytes_.startswith("the data set's images range from 0.") and "; pass images in [0, 1] (divide" in bytes_
    assert [record.axes["dataset"] for record in holes.records.values()] == ["shapes"]


def test_a_transfer_costs_what_its_attack_does_and_no_training(tiny_run, store):
    outcome = tiny_run(attack=["transfer:source=(l2),attack=(topk:k=5,steps=2)"], metric=["kept_rate"])
    assert not outcome.failures and len(list(store.list_folders("trained"))) == 2
    (folder,) = store.list_folders("attack_run")
    (phase,) = json.loads((folder / "cost.json").read_bytes())
    # Gradients for the pixels, for what is to be beaten, at two steps and at the last iterate; two double backward.
    assert (phase["forwards"], phase["backwards"]) == (5, 7)


def test_plugins_hear_of_new_records_only(tiny_run, plugged):
    logged = plugged.hooks.get_plugin("acme/acme_plugin").logged
    for _ in range(2):
        tiny_run(plugged, metric=["accuracy"])
    assert logged == ["accuracy"]


def test_levels_and_undefined_values_are_counted(tiny_run, plugged):
    outcome = tiny_run(plugged, metric=["levelled", "nothing", "half"])
    found = {r.metric: r for r in outcome.records.values()}
    levels = found["levelled"].levels
    assert levels["three"] == pytest.approx(3 * levels["one"]) and found["levelled"].value == pytest.approx(
        2 * levels["one"]
    )
    assert found["nothing"].value is None and found["nothing"].undefined_because == "there is nothing to measure"
    assert (found["half"].value, found["half"].undefined, found["half"].n) == (0.5, 5, 10)


def test_an_attack_that_moves_nothing_is_flagged(tiny_run, plugged):
    outcome = tiny_run(plugged, attack=["far:shift=0"], metric=["kept_rate"])
    (record,) = outcome.records.values()
    assert record.flags == ("nothing moved",)


def test_eps_zero_is_the_ceiling_and_no_flag(tiny_run):
    outcome = tiny_run(attack=["uniform_noise"], eps=["0"], metric=["topk_overlap"])
    (record,) = outcome.records.values()
    assert record.value == 1.0 and record.flags == ()


def test_images_left_alone_give_the_ceiling_and_no_flag(tiny_run):
    explainers = ["gradient", "smoothgrad:samples=2", "random_map"]
    metrics = ["topk_overlap:k=5", "self_similarity:similarity=(topk_overlap:k=5)", "kept_rate"]
    outcome = tiny_run(attack=["no_attack"], explainer=explainers, metric=metrics)
    found = {(r.metric, r.axes.get("explainer")): r for r in outcome.records.values()}
    # That a random map does not look at the image is no matter of the attack.
    assert not any(record.flags for (_, explainer), record in found.items() if explainer != "random_map")
    assert found["kept_rate", None].value == found["topk_overlap:k=5", "gradient"].value == 1.0
    # Noise of the clean maps is drawn afresh for the attacked ones.
    assert found["topk_overlap:k=5", "random_map"].value < found["topk_overlap:k=5", "smoothgrad:samples=2"].value < 1
    assert all(found[metrics[1], explainer].value == 1.0 for explainer in explainers)


def test_means_and_intervals_against_numpy():
    values = np.array([0.1, 0.4, np.nan, 0.9, 0.3])
    assert mean(values) == pytest.approx(np.nanmean(values)) and mean(np.array([np.nan])) is None
    rng = np.random.default_rng(5)
    data = rng.random((200, 1))
    found = summarise(data, ("",), None, (0.0, 1.0)).ci95
    resampled = [rng.choice(data, 200).mean() for _ in range(4000)]
    assert found == pytest.approx(np.percentile(resampled, [2.5, 97.5]), abs=0.005)
    assert summarise(data[:1], ("",), None, (0.0, 1.0)).ci95 is None
    assert summarise(data * np.nan, ("",), None, (0.0, 1.0)).ci95 is None


def test_a_summary_by_hand():
    values = np.array([[0.0, 1.0], [1.0, np.nan], [0.5, 0.5]])
    found = summarise(values, ("a", "b"), np.array([True, True, False]), (0.0, 1.0))
    assert (found.value, found.value_kept, found.n, found.kept, found.undefined) == (0.5, 0.5, 3, 2, 1)
    assert found.levels == {"a": 0.5, "b": 0.75}


def test_chunks_are_halved_when_memory_runs_out():
    sizes = []

    def greedy(rows):
        sizes.append(len(rows))
        if len(rows) > 3:
            raise MemoryError
        return rows * 2, rows[:, 0]

    rows = torch.arange(20.0).view(10, 2)
    double, first = chunked(greedy, rows, seed=0, name="x", indices=torch.arange(10))
    assert torch.equal(double, rows * 2) and torch.equal(first, rows[:, 0])
    assert sizes == [10, 5, 3, 3, 3, 1]
    with pytest.raises(bench.EnvironmentProblem, match=r"x: one image does not fit .*; use device cpu"):
        chunked(lambda r: (_ for _ in ()).throw(MemoryError), rows, seed=0, name="x", indices=torch.arange(10))


def test_python_runs_what_the_command_line_runs(tmp_path):
    records = bench.run(
        defense=["ce"],
        attack="topk:k=5,steps=1",
        eps="4/255",
        samples=10,
        metric="kept_rate",
        schedule="quick:epochs=1,limit=32",
        device="cpu",
        store=tmp_path / "own",
    )
    assert [(r.metric, r.axes["ball"]) for r in records] == [("kept_rate", "linf:4/255")]
    with pytest.raises(bench.BadValue, match="device 'tpu': choose auto, cpu or cuda"):
        bench.run(metric="accuracy", device="tpu")
    with pytest.raises(bench.BadValue, match="defense None: give a text such as NAME or NAME:parameter=value"):
        bench.run(defense=[None])
    with pytest.raises(bench.UnknownName, match=r"no option called 'atack'; did you mean 'attack'\?"):
        bench.run(atack="topk")
    with pytest.raises(bench.CellFailed, match="1025 samples requested") as caught:
        bench.run(samples=1025, metric=["accuracy", "train_time"], schedule="quick:epochs=1,limit=32", device="cpu")
    assert [r.metric for r in caught.value.records] == ["train_time"]


def test_an_own_network_can_be_attacked_from_python():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # Wide, so that an image has many kinks in reach: between them the gradient of a ReLU network is constant.
        network = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(48, 99), torch.nn.ReLU(), torch.nn.Linear(99, 3)
        )
    network.eval().requires_grad_(False)
    images, targets = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    explainer, attack = bench.component("explainer", "gradient"), bench.component("attack", "topk:k=3,steps=5")
    ball = bench.Ball("linf", bench.component("defense", "l2").eps)
    moved = attack.perturb(bench.Victim(network, explainer), images, targets, ball)
    before, after = explainer.maps(network, images, targets), explainer.maps(network, moved, targets)
    overlap = bench.component("metric", "topk_overlap:k=3")(clean_maps=before, attacked_maps=after)
    assert overlap.shape == (4,) and not torch.equal(moved, images)


def test_the_vocabulary_is_complete():
    assert {"images", "labels", "clean_maps", "attacked_maps", "kept", "training", "explain"} <= set(VOCABULARY.values)


def test_evidence_is_made_from_axes_and_other_evidence_and_says_what_it_is():
    for name, value in VOCABULARY.values.items():
        assert set(dependencies(value.function)) <= {*AXES, *VOCABULARY.values} - {name}
        assert value.function.__doc__, name


def test_reasons_are_grouped():
    reasons = [("a of b", "why"), ("c of d", "other"), ("e of f", "why"), ("g of h", "why")]
    assert group_reasons(reasons) == ["a of b and 2 more: why", "c of d: other"]
    assert group_reasons([]) == []


def test_records_of_other_keys_are_neither_taken_nor_told_of(tiny_run, store, warnings_told):
    first = tiny_run(defense=["l2"], metric=["accuracy", "kept_rate"])
    before = {key: record.value for key, record in first.records.items()}
    one, other, *_ = store.list_folders("record")
    other.rename(store.root / "between")
    one.rename(other)
    (store.root / "between").rename(one)
    assert len(read_records(store)) == len(before) - 2 and not warnings_told
    again = tiny_run(defense=["l2"], metric=["accuracy", "kept_rate"])
    assert {key: record.value for key, record in again.records.items()} == before
    assert sum("record" in text and "computed again" in text for text in warnings_told) == 2


def test_a_changed_record_is_no_reason_for_a_notice(tiny_run, store, warnings_told):
    tiny_run(metric=["accuracy"])
    (folder,) = store.list_folders("record")
    text = (folder / "record.json").read_text()
    for content in (text.replace("shapes", "shape5"), "[" * 100_000, text.replace('"n": 10', '"n": 1' + "0" * 5000)):
        (folder / "record.json").write_text(content)
        assert read_records(store) == []
    (folder / "record.json").unlink()
    os.mkfifo(folder / "record.json")
    assert read_records(store) == [] and not warnings_told


def test_a_record_with_fields_of_other_types_is_computed_again(tiny_run, store, warnings_told):
    (record,) = tiny_run(metric=["accuracy"]).records.values()
    files = store.read("record", record.key, ("record.json", "values.parquet"))
    for fields in ({"axes": 5}, {"value": 10**200, "n": "1"}, {"objective": [1]}, {"surplus": 1}):
        content = json.dumps({**json.loads(files["record.json"]), **fields}).encode()
        shutil.rmtree(store.folder("record", record.key))
        store.write("record", record.key, {**files, "record.json": content})
        (again,) = tiny_run(metric=["accuracy"]).records.values()
        assert again.value == record.value
    assert len(warnings_told) == 4 and all("computed again" in text for text in warnings_told)


def test_a_plan_counts_no_damaged_value(tiny_run, store):
    cells = tiny_run(metric=["accuracy"]).cells
    assert (make_plan(cells, store).done, make_plan(cells, store).make) == (1, {})
    for name in ("record", "trained"):
        (folder,) = store.list_folders(name)
        (folder / "checksums.json").write_text("[" * 100_000)
    assert (make_plan(cells, store).todo, make_plan(cells, store).make) == (1, {"trained": 1})
    assert not (store.root / "damaged").exists()


@pytest.mark.parametrize("harm", ["damaged", "gone"])
def test_a_value_of_which_only_the_cost_is_read_is_computed_again(tiny_run, store, warnings_told, harm):
    """A record of clean maps, which are whole, tells the cost of weights that are not."""
    (record,) = tiny_run(metric=["sparsity"]).records.values()
    (folder,) = store.list_folders("trained")
    shutil.rmtree(store.root / "record")
    if harm == "gone":
        shutil.rmtree(folder)
    else:
        (folder / "cost.json").write_text("[]")
    (again,) = tiny_run(metric=["sparsity"]).records.values()
    assert again.value == record.value and again.cost["trained"] > 0
    assert store.has("trained", folder.name) and len(warnings_told) == (harm == "damaged")
