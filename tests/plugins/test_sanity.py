"""Weights drawn anew, labels permuted, trainings repeated: what a map owes to what was learned."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from bench_metrics.retraining import MaskedImages, swap
from slow_metrics import diffroar_image
from torch import nn
from torch.testing import assert_close

import bench
from bench.engine import runner, scoring
from bench.engine.cells import list_cells
from bench.engine.graph import Graph, Memory
from bench.testing import TinyModel, tiny_data, tiny_images, tiny_network

IMAGES, TARGETS = tiny_images(4)
CE = bench.component("defense", "ce")
DATA = SimpleNamespace(shape=(3, 12, 12), classes=("a", "b", "c"), indices=torch.arange(4))


def randomized(text, explain, network=None, model=None):
    network = network or tiny_network(True)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        found = bench.component("metric", text)(
            network=network,
            model=model or TinyModel(),
            defense=CE,
            explain=explain,
            images=IMAGES,
            targets=TARGETS,
            clean_maps=explain(network, IMAGES, TARGETS),
            seed=0,
            test_data=DATA,
        )
    return found


def gradient(network, images, targets):
    return bench.component("explainer", "gradient").maps(network, images, targets)


def ignorant(network, images, targets):
    maps = images.sum(1)
    return maps / maps.sum((1, 2), keepdim=True)


def test_layers_are_drawn_anew_from_the_output_down():
    network, seen = tiny_network(True), []

    def explain(network, images, targets):
        seen.append(copy.deepcopy(network.state_dict()))
        return gradient(network, images, targets)

    found = randomized("randomization:similarity=(cosine)", explain, network)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        fresh = TinyModel().build((3, 12, 12), 3).double()
    before, new = network.state_dict(), fresh.state_dict()
    assert found.names == ("6", "2", "0") and len(seen) == 4
    for depth, layers in enumerate((["6"], ["6", "2"], ["6", "2", "0"])):
        expected = copy.deepcopy(network)
        for layer in layers:
            for part in ("weight", "bias"):
                name = f"network.{layer}.{part}"
                assert not torch.equal(before[name], new[name])
                expected.state_dict()[name].copy_(new[name])
        assert all(torch.equal(seen[depth + 1][n], t) for n, t in expected.state_dict().items())
        maps = [gradient(net, IMAGES, TARGETS).flatten(1) for net in (network, expected)]
        assert_close(found.values[:, depth], torch.cosine_similarity(*maps))
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


def test_depths_are_spread_and_end_with_the_whole_network():
    found = randomized("randomization:depths=2,similarity=(cosine)", gradient)
    every = randomized("randomization:similarity=(cosine)", gradient)
    assert found.names == ("2", "0")
    assert_close(found.values, every.values[:, 1:])
    assert randomized("randomization:depths=9", gradient).names == every.names


def test_a_map_that_ignores_the_network_keeps_all_of_it():
    assert_close(randomized("randomization", ignorant).values, torch.ones(4, 3, dtype=torch.float64))
    assert randomized("randomization", gradient).values.mean() < 0.9


def test_the_order_is_that_of_the_forward_pass_and_batch_norm_goes_along():
    model = bench.component("model", "resnet20")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = model.build((3, 32, 32), 10).eval().requires_grad_(False)
        for name, values in network.state_dict().items():
            if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
                values.fill_(3)
    images = torch.rand(1, 3, 32, 32)
    data = SimpleNamespace(shape=(3, 32, 32), classes=tuple("abcdefghij"), indices=torch.arange(1))
    given = {"network": network, "model": model, "defense": CE, "images": images, "seed": 0}
    given["targets"] = torch.tensor([1])
    seen = []

    def explain(network, images, targets):
        seen.append(copy.deepcopy(network.state_dict()))
        return gradient(network, images, targets)

    metric = bench.component("metric", "randomization")
    found = metric(**given, explain=explain, clean_maps=gradient(network, images, torch.tensor([1])), test_data=data)
    assert len(found.names) > 30 and "bn" in found.names[-2] + found.names[-1] + found.names[1]
    last = seen[-1]
    assert all(t.eq(0).all() for n, t in last.items() if n.endswith("running_mean"))
    assert all(t.eq(1).all() for n, t in last.items() if n.endswith("running_var"))
    assert torch.equal(last["mean"], network.state_dict()["mean"])


class Attending(nn.Module):
    """Weights in forms that no forward pass calls by themselves."""

    def __init__(self):
        super().__init__()
        self.first, self.used = nn.Conv2d(3, 4, 3), nn.ModuleDict({"inner": nn.Linear(4, 4)})
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.last, self.spare = nn.Linear(4, 3), nn.Linear(2, 2)

    def forward(self, images):
        tokens = self.first(images).flatten(2).mT
        tokens = nn.functional.linear(tokens, self.used["inner"].weight)
        return self.last(self.attention(tokens, tokens, tokens)[0].mean(1))


def test_weights_of_layers_that_are_not_called_are_drawn_anew_as_well():
    from bench_metrics.randomization import layers_from_the_output

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Attending().double().eval()
        other = Attending().double()
    found = layers_from_the_output(network, IMAGES)
    assert found == [["last"], ["attention", "attention.out_proj"], ["first", "used.inner", "spare"]]
    build = SimpleNamespace(build=lambda shape, classes: other)
    seen = []

    def explain(network, images, targets):
        seen.append(network.state_dict())
        return ignorant(network, images, targets)

    assert randomized("randomization", explain, network, build).names == ("last", "attention", "first")
    assert all(torch.equal(seen[-1][name], t) for name, t in other.state_dict().items())


SHORT = {"schedule": ["quick:epochs=1,batch=32,limit=64"], "samples": ["10"], "defense": ["ce"]}


def test_a_network_that_did_not_fit_has_no_label_randomization(tiny_run):
    (record,) = tiny_run(metric=["label_randomization"], **SHORT).records.values()
    assert record.value is None
    assert record.undefined_because.startswith("the network failed to fit permuted labels: ")
    assert record.undefined_because.endswith("of 64 are right, 90% are needed; train longer or on fewer images")
    (record,) = tiny_run(metric=["label_randomization:fitted=0"], **SHORT).records.values()
    assert 0 < record.value < 1 and record.cost["refit"] > 0 and record.n == 10 and record.better == "lower"


def test_labels_are_permuted_and_the_rest_stays(catalog, store, tiny_case, monkeypatch):
    asked = []

    def refit(data, name, using):
        asked.append(data)
        return network

    graph = Graph(scoring.VOCABULARY, tiny_case, store, torch.device("cpu"), Memory())
    given = {name: graph.get(name) for name in ("train_data", "schedule", "images", "targets", "clean_maps", "explain")}
    network = graph.get("network")
    found = bench.component("metric", "label_randomization:fitted=0")(refit=refit, seed=0, **given)
    assert torch.equal(found, torch.ones_like(found))  # the same network: its own maps
    (data,) = asked
    train = given["train_data"]
    rows = given["schedule"].used(train)
    assert len(rows) < len(train)
    # The images of the case's own training, and no others: which ones a limit takes depends on the labels.
    assert torch.equal(given["schedule"].used(data), torch.arange(len(rows)))
    assert data.shape == train.shape and torch.equal(data.images[torch.arange(9)], train.images[rows[:9]])
    labels = train.labels[rows]
    assert data.labels.bincount().tolist() == labels.bincount().tolist()
    assert (data.labels == labels).double().mean() < 0.3  # ten classes


@pytest.mark.slow
def test_stability_exchanges_images_and_begins_from_other_weights(tiny_run, store):
    outcome = tiny_run(metric=["stability", "stability:similarity=(topk_overlap:k=5),swapped=0"], **SHORT)
    assert not outcome.failures
    values = [record.value for record in outcome.records.values()]
    assert all(value < 0.9 for value in values)
    assert len(list(store.list_folders("refit"))) == 2
    many = {**SHORT, "samples": ["1022"]}
    (record,) = tiny_run(metric=["stability:swapped=0.1"], **many).records.values()
    assert record.undefined_because == (
        "6 training images are to be exchanged, but test has only 2 that are not measured on; use fewer samples, or a "
        "smaller share"
    )


def test_stability_exchanges_as_many_of_the_images_used_as_are_asked():
    data, others = tiny_data(200), tiny_data(300)
    schedule = bench.component("schedule", "quick:limit=40")
    asked = []

    def refit(data, name, seed, using):
        asked.append(data)

    bench.component("metric", "stability:swapped=0.25")(
        refit=refit,
        dataset=SimpleNamespace(load=lambda split: others),
        split="test",
        train_data=data,
        test_data=SimpleNamespace(rows=torch.arange(10)),
        schedule=schedule,
        explain=lambda network, images, targets: torch.ones(4, 12, 12),
        images=IMAGES,
        targets=TARGETS,
        clean_maps=torch.ones(4, 12, 12),
        clean_attributions=torch.ones(4, 3, 12, 12),
        seed=0,
    )
    (found,) = asked
    rows = schedule.used(data)
    assert torch.equal(schedule.used(found), torch.arange(40))
    same = (found.images[torch.arange(40)] == data.images[rows]).flatten(1).all(1)
    assert int((~same).sum()) == 10
    assert torch.equal(found.labels[same], data.labels[rows][same])


def test_stability_compares_attributions_by_elements(tiny_case, store):
    graph = Graph(scoring.VOCABULARY, tiny_case, store, torch.device("cpu"), Memory())
    names = ("dataset", "split", "train_data", "test_data", "schedule", "explain", "images", "targets")
    given = {name: graph.get(name) for name in (*names, "clean_maps", "clean_attributions", "seed")}
    second = tiny_network(True, torch.float32, (3, 32, 32))
    second.network[-1] = torch.nn.Linear(second.network[-1].in_features, 10)
    found = bench.component("metric", "stability:similarity=(topk_overlap_elements:share=0.1)")(
        refit=lambda *data, using: second, **given
    )
    others = bench.component("explainer", "gradient").attributions(second, given["images"], given["targets"])
    for i, (mine, other) in enumerate(zip(given["clean_attributions"], others, strict=True)):
        top = [set(one.abs().flatten().argsort(descending=True)[:307].tolist()) for one in (mine, other)]
        assert float(found[i]) == len(top[0] & top[1]) / 307
    with pytest.raises(bench.BadValue, match="similarity accuracy does not compare two maps; use one such as cosine"):
        bench.component("metric", "stability:similarity=(accuracy)")


def test_images_without_labels_cannot_be_exchanged():
    plain = dataclasses.replace(tiny_data(30), labels=None)
    given = {"train_data": tiny_data(30), "schedule": bench.component("schedule", "quick"), "seed": 0, "refit": None}
    given |= dict.fromkeys(("explain", "images", "targets", "clean_maps", "clean_attributions", "test_data"))
    with pytest.raises(bench.BadComponent, match="metric stability: images of plain have no labels to train on"):
        plains = type("Plain", (), {"load": lambda self, split: plain, "__str__": lambda self: "plain"})()
        bench.component("metric", "stability")(dataset=plains, split="test", **given)


def test_trainings_of_metrics_move_with_the_version_of_the_case_s_own(catalog, tiny_case, monkeypatch):
    (cell,) = list_cells(catalog, [tiny_case], [bench.component("metric", "label_randomization")])
    before = [scoring._refit_spec(cell, "permuted", using) for using in ((), None)]
    value = scoring.VOCABULARY.values["trained"]
    monkeypatch.setitem(scoring.VOCABULARY.values, "trained", dataclasses.replace(value, version=value.version + 1))
    after = [scoring._refit_spec(cell, "permuted", using) for using in ((), None)]
    assert all(one != two for one, two in zip(before, after, strict=True))


def test_exchanged_rows_bring_all_that_belongs_to_them():
    data, others = tiny_data(12), tiny_data(24)
    out, into = torch.tensor([2, 5]), torch.tensor([20, 13])
    found = swap(data, out, others, into)
    rows = torch.tensor([5, 1, 2])
    for column in ("images", "object_masks", "gaze", "labels"):
        old, new, mixed = getattr(data, column), getattr(others, column), getattr(found, column)
        assert torch.equal(mixed[rows], torch.stack([new[13], old[1], new[20]]))
    assert len(found) == 12 and found.shape == data.shape and data.labels[2] == 2


def test_images_of_diffroar_beside_a_slow_form():
    images, _ = tiny_images(3)
    order = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(2)).double().round(decimals=1)
    empty = torch.tensor([0.3, 0.4, 0.5]).double().view(3, 1, 1)
    from bench.maps import ranks

    rank, count = ranks(order), int(0.3 * 144)
    for best, shown in ((True, rank < count), (False, rank >= 144 - count)):
        found = MaskedImages(images, shown, empty)[torch.tensor([2, 0])]
        for place, i in enumerate((2, 0)):
            assert_close(found[place], diffroar_image(images[i], order[i], 0.3, best, empty))


@dataclass(frozen=True)
class Patches(bench.Dataset):
    """The class is the colour of a bright patch on grey noise."""

    name = "patches"
    provides = frozenset({"labels", "object_masks"})

    def load(self, split):
        count, number = (150, 0) if split == "train" else (60, 1)
        drawn = torch.Generator().manual_seed(number)
        images = 0.4 + 0.2 * torch.rand(count, 3, 12, 12, generator=drawn)
        labels, masks = torch.arange(count) % 3, torch.zeros(count, 12, 12)
        for i, (row, column) in enumerate(torch.randint(0, 9, (count, 2), generator=drawn).tolist()):
            images[i, labels[i], row : row + 4, column : column + 4] = 0.9
            masks[i, row : row + 4, column : column + 4] = 1
        return bench.Data(images, labels, ("red", "green", "blue"), object_masks=masks)


@dataclass(frozen=True)
class Where(bench.Explainer):
    """The patch, or all the rest: right or wrong on purpose."""

    name = "where"
    inside: bool = bench.param(True, "whether it points at the patch")

    def attribute(self, network, images, targets):
        bright = (images.amax(1, keepdim=True) > 0.7).to(images)
        return bright if self.inside else 1 - bright


def test_diffroar_is_positive_on_objects_and_negative_on_the_rest(tiny_case, store, catalog):
    for inside in (True, False):
        case = dataclasses.replace(
            tiny_case,
            dataset=Patches(),
            model=TinyModel(),
            explainer=Where(inside),
            schedule=bench.component("schedule", "quick:epochs=8,batch=10,rate=0.003,decay=(7)"),
            samples=60,
        )
        todo = list_cells(catalog, [case], [bench.component("metric", "diffroar:shares=(0.1)")])
        outcome = runner.run_cells(todo, catalog, store, torch.device("cpu"))
        assert not outcome.failures
        (record,) = outcome.records.values()
        assert list(record.levels) == ["10%"] and record.cost["refit"] > 0
        assert record.ci95[0] > 0.3 if inside else record.ci95[1] < -0.3


def test_maps_that_ignore_the_network_teach_the_same_under_every_defense(tiny_run):
    """With a training of its own: B.5 of Gong et al."""
    own = "diffroar:shares=(0.1),model=(lenet:activation=relu),schedule=(quick:epochs=1,limit=32),defense=(ce)"
    outcome = tiny_run(metric=[own], **{**SHORT, "defense": ["ce", "cosd"], "explainer": ["edge_map"]})
    assert not outcome.failures
    first, second = outcome.records.values()
    assert first.axes["defense"] != second.axes["defense"] and first.key != second.key
    assert first.levels == second.levels and first.value == second.value
    preset = bench.component("metric", "diffroar:gong2024")
    assert (str(preset.model), preset.schedule.epochs, str(preset.defense)) == ("torchvision:arch=resnet34", 150, "ce")


def test_a_metric_that_trains_by_a_defense_of_its_own_asks_nothing_of_the_case_s(bench_):
    for own, refused in (("(ce)", False), ("(weights:path=README.md)", True)):
        words = ["--defense", "weights:path=README.md", "--metric", f"diffroar:defense={own}", "--no-reference"]
        _, out, err = bench_("plan", *words)
        assert ("metric diffroar: it trains again on other data, which weights cannot" in out + err) == refused


def test_what_cannot_be_trained_again_is_refused_and_teachers_are_trained_on_the_new_data(bench_, tiny_run, store):
    weights = "weights:path=README.md"
    for defense in (weights, f"atex:teacher=({weights})"):
        _, out, err = bench_("plan", "--defense", defense, "--metric", "stability", "--no-reference")
        assert "metric stability: it trains again on other data, which weights cannot" in out + err
    outcome = tiny_run(metric=["stability"], **{**SHORT, "defense": ["atex:samples=1"]}, reference=False)
    assert not outcome.failures
    assert len(list(store.list_folders("refit"))) == 2  # the student and its teacher
    assert len(list(store.list_folders("trained"))) == 2


def test_trainings_are_kept_and_belong_to_their_metric(tiny_run, store):
    metrics = ["stability", "label_randomization:fitted=0"]
    tiny_run(metric=metrics, **SHORT)
    folders = {folder: folder.stat().st_mtime_ns for folder in store.list_folders("refit")}
    assert len(folders) == 2
    for folder in store.list_folders("record"):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    tiny_run(metric=metrics, **SHORT)
    assert {folder: folder.stat().st_mtime_ns for folder in store.list_folders("refit")} == folders
    # Their data do not follow from the explainer, and those of stability follow from the images measured on.
    tiny_run(metric=metrics, **{**SHORT, "explainer": ["input_x_gradient"]})
    assert len(list(store.list_folders("refit"))) == 2
    tiny_run(metric=metrics, **{**SHORT, "samples": ["12"]})
    assert len(list(store.list_folders("refit"))) == 3


def test_empty_shares_are_told():
    with pytest.raises(bench.BadValue, match="shares is empty; give at least one share of the pixels"):
        bench.component("metric", "diffroar:shares=()")
