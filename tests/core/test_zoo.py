"""The zoo: names, the index, files, and networks that are exported, loaded and run again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from submissions import META
from torch import nn
from torch.testing import assert_close

import bench
from bench import zoo
from bench.boards import read_records
from bench.cli import main
from bench.errors import BadValue, EnvironmentProblem, UnknownName
from bench.keys import write_text
from bench.publishing.card import write_code

BOARD = """
title = "Tiny"
about = "For tests."
metrics = ["accuracy", "topk_overlap:k=5", "train_time"]
[axes]
dataset = ["shapes:size=16"]
split = ["test"]
model = ["lenet"]
schedule = ["quick:epochs=1,batch=32,limit=64"]
defense = ["ce", "l2"]
seed = [0]
explainer = ["gradient"]
attack = ["uniform_noise"]
eps = ["8/255"]
norm = ["linf"]
target = ["predicted"]
samples = [10]
[reference]
defense = "ce"
[fallback]
surrogate = "gradient"
[score]
metric = "topk_overlap:k=5"
attack = "uniform_noise"
against = "accuracy"
"""
MEASURED = ["--metric", "accuracy", "--metric", "topk_overlap:k=5", "--metric", "train_time"]
UNDER = ["--attack", "uniform_noise", "--samples", "10", *MEASURED]


def command(*words):
    with pytest.raises(SystemExit) as done:
        main(list(map(str, words)))
    assert not done.value.code, words


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder as a checkout is: a board with two networks, and their index. Beside it the store that trained them."""
    top = tmp_path_factory.mktemp("checkout")
    board, index = top / "leaderboards" / "tiny", top / "bench" / "zoo.toml"
    board.mkdir(parents=True)
    index.parent.mkdir()
    (board / "board.toml").write_text(BOARD)
    (top / "suite.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in META.items()))
    place = ["--store", top / "store"]
    command("run", "--board", board, *place)
    command("leaderboard", "publish", board, "--meta", top / "suite.toml", *place)
    for defense in ("ce", "l2"):
        chosen = ["--board", board, "--defense", defense, "--licence", "CC0-1.0", "--index", index]
        command("store", "export", *chosen, "--out", board / "weights", *place)
    return top


@pytest.fixture
def own(checkout, tmp_path, monkeypatch):
    """A copy of the checkout, as the working folder, whose networks are a zoo of the user's own."""
    shutil.copytree(checkout, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("store"))
    weights = tmp_path / "leaderboards" / "tiny" / "weights"
    monkeypatch.setenv("BENCH_ZOO_DIR", str(tmp_path / "networks"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(weights, tmp_path / "networks")
    shutil.copy(tmp_path / "bench" / "zoo.toml", tmp_path / "networks")
    return tmp_path


@pytest.fixture
def l2(own):
    return zoo.find_network("tiny/l2")


def edit(top, change, index="networks/zoo.toml"):
    """Change the entries of an index."""
    networks = zoo.read_index(top / index)
    (top / index).write_text("\n".join(zoo.write_entry(change(network)) for network in networks))


def entry(board="tiny", defense="l2", seed="0", **fields):
    """A made-up entry."""
    choices = {axis: f"{axis}/{axis[0]}@1()" for axis in zoo.AXES[:3]}
    name, _, given = defense.partition(":")
    choices |= {"defense": f"defense/{name}@1({given})", "seed": seed}
    spec = json.dumps(["trained", {"trained": 2}, {**choices, **fields.pop("choices", {})}])
    made = {
        "board": board,
        "key": hashlib.sha256(spec.encode()).hexdigest()[:16],
        "spec": spec,
        "axes": {"dataset": "d", "model": "m", "schedule": "s", "defense": defense, "seed": seed},
        "shape": [3, 32, 32],
        "classes": 10,
        "cost": [{"name": "train", "seconds": 1.5, "forwards": 2, "backwards": 2}],
        "sha256": "0" * 64,
        "bytes": 100,
        "licence": "CC0-1.0",
        "url": "https://example.org/a.safetensors",
        "command": "bench run",
    }
    return zoo.Network(**{**made, **fields})


OTHER = {"schedule": "schedule/s@2()"}


@pytest.fixture
def named(tmp_path, monkeypatch):
    """Put networks into an index of the user's own."""

    def put(*networks):
        (tmp_path / "zoo.toml").write_text("\n".join(map(zoo.write_entry, networks)))
        monkeypatch.setenv("BENCH_ZOO_DIR", str(tmp_path))

    return put


def test_a_name_without_a_seed_means_the_lowest(named):
    networks = [entry(seed="10"), entry(seed="2"), entry(defense="ce"), entry(board="other", seed="0")]
    named(*networks)
    assert zoo.find_network("tiny/l2") == networks[1]
    assert zoo.find_network("tiny/l2/10") == networks[0]
    assert zoo.find_network(f"tiny/l2/{networks[0].key[:6]}") == networks[0]
    assert zoo.find_network("other/l2") == networks[3]


def test_a_name_finds_a_defense_with_a_fraction(named):
    networks = [entry(defense="l2:eps=8/255"), entry(defense="l2:eps=8", seed="3")]
    named(*networks)
    assert zoo.find_network("tiny/l2:eps=8/255") == networks[0]
    assert zoo.find_network("tiny/l2:eps=8/255/0") == networks[0]
    assert zoo.find_network("tiny/l2:eps=8/3") == networks[1]


def test_an_ambiguous_name_is_refused_with_the_candidates(named):
    one, two = entry(), entry(choices=OTHER)
    named(one, two)
    for name in ("tiny/l2", "tiny/l2/0"):
        with pytest.raises(BadValue) as refused:
            zoo.find_network(name)
        assert str(refused.value) == (
            f"2 networks of the zoo are called '{name}'; write tiny/l2/{one.key} or tiny/l2/{two.key}"
        )
    assert zoo.find_network(two.full_name) == two


@pytest.mark.parametrize("name", ["tiny/l3", "tiny/l2/7", "tiny/l2/12345"])
def test_an_unknown_name_gets_a_suggestion(named, name):
    named(entry())
    with pytest.raises(UnknownName, match=f"^no network called '{name}' in the zoo; did you mean 'tiny/l2"):
        zoo.find_network(name)


def test_an_entry_is_written_as_it_is_read():
    network = entry(defense='norm_at:norm="a b"', board="x-1.y")
    assert zoo.parse_index(zoo.write_entry(network).encode(), "index") == (network,)


def without(line):
    return re.sub(rf"^{line} = .*\n", "", zoo.write_entry(entry()), flags=re.MULTILINE)


WRONG = {
    "is not TOML": "[[network]",
    "network[0] has no licence; add what is missing": without("licence"),
    "network[0].licence is empty; fill it in": zoo.write_entry(entry(licence="")),
    "network[0].licence is 'as is', must be an SPDX identifier, such as CC0-1.0": zoo.write_entry(
        entry(licence="as is")
    ),
    "network[1] has the name 'tiny/l2/": zoo.write_entry(entry()) * 2,
    "network[0].command is 'bench?run' and contains the hidden character U+200B": zoo.write_entry(
        entry(command="bench\u200brun")
    ),
    "network[0].axes.defense is 'l²', must be in ASCII": zoo.write_entry(entry()).replace(
        'defense = "l2"', 'defense = "l²"'
    ),
    "network[0]: key is 0123456789abcdef, but its spec has the key ": zoo.write_entry(entry(key="0123456789abcdef")),
    "network[0].sha256 is 'abc', must be a sha256 of 64 digits": zoo.write_entry(entry(sha256="abc")),
    "network[0].shape is [3, 32], must be [channels, height, width]": zoo.write_entry(entry(shape=[3, 32])),
    "network[0].url is 'file:///etc', must be empty or begin with https://": zoo.write_entry(entry(url="file:///etc")),
    "network[0] has the unknown key 'colour'": zoo.write_entry(entry()) + 'colour = "red"\n',
    "network[0].axes.seed is '01', must be a whole number, as a text": zoo.write_entry(
        entry(axes={**entry().axes, "seed": "01"})
    ),
    "network[0]: spec is about 'record', not about trained weights": zoo.write_entry(
        entry(spec='["record", {}, {}]', key=hashlib.sha256(b'["record", {}, {}]').hexdigest()[:16])
    ),
}


@pytest.mark.parametrize("problem", WRONG)
def test_a_wrong_index_is_refused_in_one_line(problem):
    with pytest.raises(BadValue) as refused:
        zoo.parse_index(WRONG[problem].encode(), "zoo.toml")
    assert problem in str(refused.value) and "\n" not in str(refused.value)


def test_the_index_and_its_names_need_no_torch(own):
    code = "import sys; from bench import zoo; print(zoo.find_network('tiny/l2').board, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "tiny False\n"


def test_a_missing_file_is_told_with_the_places(own, l2, tmp_path):
    (own / "networks" / l2.file).unlink()
    with pytest.raises(EnvironmentProblem) as missing:
        zoo.read_weights(l2, tmp_path / "data")
    assert str(missing.value) == (
        f"file {l2.file} is missing (looked in {own}/networks/{l2.file} and {tmp_path}/data/zoo/{l2.file}), and has no "
        f"address; put it into DATA/zoo/{l2.file} and name DATA with --data-dir or BENCH_DATA_DIR"
    )


def test_the_data_folder_may_hold_a_network(own, l2, tmp_path):
    content = (own / "networks" / l2.file).read_bytes()
    (tmp_path / "data" / "zoo").mkdir(parents=True)
    (own / "networks" / l2.file).rename(tmp_path / "data" / "zoo" / l2.file)
    assert zoo.read_weights(l2, tmp_path / "data") == content


def damaged(raw):
    tensors = safetensors.numpy.load(raw)
    name = max(tensors)
    return {
        "NaN": safetensors.numpy.save({**tensors, name: np.full_like(tensors[name], np.nan)}),
        "pickle": pickle.dumps({name: [1.0] for name in tensors}),
        "truncated": raw[:50],
        "metadata": safetensors.numpy.save(tensors, {"note": "more"}),
        "other": safetensors.numpy.save({"a": np.ones(3, np.float32)}),
    }


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("NaN", "std contains NaN or infinity; export other weights"),
        ("pickle", "is not a safetensors file of plain numbers .*; other formats are refused, since they can run code"),
        ("truncated", "is not a safetensors file of plain numbers .*; other formats are refused"),
        ("metadata", "contains metadata besides its tensors; write it by bench store export"),
        ("other", "lack mean and 13 more; are they those of another model?"),
    ],
)
def test_a_file_with_something_else_is_refused(own, l2, damage, problem):
    raw = damaged((own / "networks" / l2.file).read_bytes())[damage]
    (own / "networks" / l2.file).write_bytes(raw)
    with pytest.raises(EnvironmentProblem, match=f"{l2.file} has .* instead of .*, or remove it"):
        bench.load_model("tiny/l2")
    changed = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    edit(own, lambda network: dataclasses.replace(network, **changed) if network.key == l2.key else network)
    with pytest.raises(BadValue, match=f"^weights of tiny/l2/{l2.key}.*{problem}") as refused:
        bench.load_model("tiny/l2")
    assert "\n" not in str(refused.value)


def test_a_network_is_its_weights_in_its_model(own, l2):
    state = torch.random.get_rng_state()
    network = bench.load_model("tiny/l2")
    assert torch.equal(torch.random.get_rng_state(), state)
    by_hand = bench.component("model", "lenet").build((3, 16, 16), 10).eval()
    by_hand.load_state_dict(safetensors.torch.load_file(own / "networks" / l2.file))
    images = torch.rand(3, 3, 16, 16)
    assert_close(network(images), by_hand(images), rtol=0, atol=0)
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_an_entry_of_another_model_is_refused(own):
    edit(own, lambda network: dataclasses.replace(network, axes={**network.axes, "model": "resnet20"}))
    with pytest.raises(BadValue, match=r"^weights of tiny/l2/.* lack .* and \d+ more; are they those of another model"):
        bench.load_model("tiny/l2")


def forbid(monkeypatch, *names):
    """Let no defense of these names train."""
    for name in names:

        def train(self, fit):
            raise AssertionError(f"{self.name} trains")

        monkeypatch.setattr(type(bench.component("defense", name)), "train", train)


def told(records, drop=("provenance", "command")):
    return {r.key: {k: v for k, v in dataclasses.asdict(r).items() if k not in drop} for r in records}


@pytest.fixture
def run_(bench_):
    """Run a command whose records are returned."""

    def run(*words):
        code, out, err = bench_("run", *words, "--samples", "10", "--json")
        assert (code, err) == (0, "")
        return [bench.Record.parse(json.dumps(record)) for record in json.loads(out)]

    return run


def test_an_exported_network_reproduces_its_row(own, run_, monkeypatch):
    forbid(monkeypatch, "ce", "l2")
    again = run_("--defense", "zoo:network=tiny/l2", *UNDER)
    published = read_records(own / "leaderboards" / "tiny").records
    for record in (*again, *published):
        for name in record.cost.keys() - {"trained"}:  # in seconds of another run
            record.cost[name] = 0.0
    assert told(again) == told(published)
    assert {record.axes["defense"] for record in again} == {"ce", "l2"}  # the reference row is in the zoo as well


def test_a_plain_run_takes_nothing_from_the_zoo(own, bench_, l2, monkeypatch):
    forbid(monkeypatch, "l2")
    options = [word for axis, text in l2.axes.items() for word in (f"--{axis}", text)]
    code, _, err = bench_("run", *options, "--no-reference", "--metric", "accuracy", "--samples", "10")
    assert code == 1 and "l2 trains" in err
    way = "which this run trains; with --defense zoo:network=tiny/l2/0 a run takes it from there"
    assert f"bench: the zoo has tiny/l2/0, {way}\n" in err


def test_networks_that_an_attack_uses_come_from_the_zoo(own, run_, monkeypatch):
    forbid(monkeypatch, "ce", "l2")
    words = ["--attack", "transfer:source=(ce),attack=(uniform_noise)", "--metric", "kept_rate", "--no-reference"]
    (record,) = run_("--defense", "zoo:network=tiny/l2", *words)
    assert record.axes["defense"] == "l2"


def test_what_stands_beside_a_network_is_trained_as_it_was(own, run_, l2):
    records = run_(*("--defense", "zoo:network=tiny/l2", "--defense", "cosd", "--no-reference", "--metric", "accuracy"))
    axes = [{axis: record.axes[axis] for axis in zoo.AXES} for record in records]
    assert [each["defense"] for each in axes] == ["cosd", "l2"]
    assert {**axes[0], "defense": "l2"} == axes[1] == l2.axes


def test_an_option_that_is_given_stays(own, run_, l2):
    (record,) = run_("--defense", "zoo:network=tiny/l2", "--seed", "1", "--no-reference", "--metric", "accuracy")
    assert {axis: record.axes[axis] for axis in zoo.AXES} == {**l2.axes, "seed": "1", "defense": "zoo:network=tiny/l2"}


def test_elsewhere_the_weights_are_part_of_the_identity(own, run_, l2, monkeypatch):
    forbid(monkeypatch, "l2")
    words = ["--defense", "zoo:network=tiny/l2", "--no-reference", "--metric", "accuracy"]
    (here,), (there,) = run_(*words), run_(*words, "--schedule", "quick")
    assert there.axes["defense"] == "zoo:network=tiny/l2"
    assert f"defense/zoo@1(network=tiny/l2)#{l2.sha256[:16]}" in there.spec
    assert here.axes["defense"] == "l2" and here.key != there.key
    assert here.value == there.value  # the same network


def test_another_version_is_another_case(own, run_, l2, monkeypatch):
    monkeypatch.setattr(type(bench.component("defense", "l2")), "version", 7)
    (record,) = run_("--defense", "zoo:network=tiny/l2", "--no-reference", "--metric", "accuracy")
    assert record.axes["defense"] == "zoo:network=tiny/l2"


def test_a_network_of_another_model_is_refused(own, bench_):
    words = ["run", "--defense", "zoo:network=tiny/l2", "--no-reference", "--metric", "accuracy", "--samples", "10"]
    _, _, err = bench_(*words, "--model", "resnet20")
    assert "defense zoo: tiny/l2 is of model lenet, not resnet20; choose that model" in err
    code, _, err = bench_(*words, "--dataset", "shapes")
    assert code == 1
    assert "is (32, 256), must be (32, 1024) for this model and number of classes" in err


def test_a_stranger_publishes_a_row_of_a_network_of_the_zoo(own, bench_, l2, monkeypatch):
    forbid(monkeypatch, "ce", "l2")
    row = ["--defense", "zoo:network=tiny/l2", "--explainer", "input_x_gradient", "--no-reference"]
    assert bench_("run", "--board", "leaderboards/tiny", *row)[0] == 0
    code, _, err = bench_("leaderboard", "publish", "leaderboards/tiny", *row, "--name", "ada", "--meta", "suite.toml")
    assert (code, err) == (0, "")
    assert bench_("leaderboard", "validate") == (0, "2 submissions, 7 records, 2 networks valid\n", "")
    (record,) = (r for r in read_records(own / "leaderboards" / "tiny").records if "input_x" in r.command)
    assert (record.axes["defense"], record.provenance["weights"]) == ("l2", l2.sha256)


def test_a_folder_that_does_not_exist_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_ZOO_DIR", str(tmp_path / "none"))
    with pytest.raises(EnvironmentProblem, match=r"^folder .*/none does not exist; check BENCH_ZOO_DIR$"):
        zoo.list_networks()


def test_a_wrong_name_is_told_in_a_line(own, bench_):
    code, _, err = bench_("run", "--defense", "zoo:network=tiny/l3", "--metric", "accuracy")
    assert (code, err) == (2, "bench: no network called 'tiny/l3' in the zoo; did you mean 'tiny/l2' or 'tiny/l2/0'?\n")


def test_a_plan_names_what_comes_from_the_zoo(own, bench_):
    code, out, _ = bench_("plan", "--defense", "zoo:network=tiny/l2", "--metric", "accuracy", "--samples", "10")
    assert code == 0
    assert out == "0 cells done, 2 to do, 0 refused\nfrom the zoo: tiny/ce/0, tiny/l2/0 (0.1 MB)\n"


def test_pictures_are_explained_by_a_network_of_the_zoo(own, bench_, monkeypatch):
    from PIL import Image

    forbid(monkeypatch, "l2")
    Image.new("RGB", (16, 16), (90, 10, 200)).save(own / "a.png")
    code, out, _ = bench_("explain", "a.png", "--defense", "zoo:network=tiny/l2", "--json")
    assert code == 0 and len(json.loads(out)) == 1


def test_the_card_loads_the_network_without_the_suite(own, l2, monkeypatch):
    monkeypatch.chdir(own / "networks")
    card = (own / "networks" / f"{l2.key}.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    script = f"import sys\n{code}\nassert not any(name.startswith('bench') for name in sys.modules)\n"
    images = torch.rand(2, 3, 16, 16)
    torch.save(images, "images.pt")
    script += "torch.save(network(torch.load('images.pt')), 'logits.pt')\n"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert_close(torch.load("logits.pt"), bench.load_model("tiny/l2")(images), rtol=0, atol=1e-6)
    for text in (l2.spec, l2.sha256, "CC0-1.0", l2.command, "accuracy", "topk\\_overlap:k=5"):
        assert text in card


@pytest.mark.parametrize(
    "text", ["lenet:activation=relu", "resnet20", "resnet18_cifar", "torchvision:arch=resnet18", "timm:arch=resnet10t"]
)
def test_the_code_of_a_card_computes_the_model(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = bench.component("model", text).build((3, 32, 32), 4).eval()
    for name, buffer in network.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    safetensors.torch.save_file({n: t.clone() for n, t in network.state_dict().items()}, "a.safetensors")
    space = {}
    exec(write_code(network, "a.safetensors"), space)
    images = torch.rand(2, 3, 32, 32)
    assert_close(space["network"](images), network(images), rtol=0, atol=1e-6)


def test_a_network_that_no_code_gives_has_none():
    class Forked(nn.Module):
        def forward(self, images):
            return images if images.sum() > 0 else -images

    class Foreign(nn.Module):
        def forward(self, images):
            return nn.Linear(2, 2)(images)

    assert write_code(Forked(), "a.safetensors") is None and write_code(Foreign(), "a.safetensors") is None


def test_weights_are_exported_by_their_key(checkout, own, bench_, l2):
    code, out, err = bench_("store", "export", l2.key, "--out", "x", "--store", str(checkout / "store"))
    assert (code, err, out) == (0, "", f"x/{l2.key}.safetensors\nx/{l2.key}.md\n")
    assert (own / "x" / l2.file).read_bytes() == (own / "networks" / l2.file).read_bytes()
    assert "none was given: ask whoever trained it" in (own / "x" / f"{l2.key}.md").read_text()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["0" * 16], "store .*/store has no network with the key '0000000000000000'; give the options of its run"),
        (["../x"], r"store .*/store has no network with the key '\.\./x'; give the options"),
        (["--defense", "l2"], "store .*/store has no network .* of l2 with seed 0; bench run with the same options"),
        (["--defense", "l2", "--defense", "ce"], r"these options select 2 networks \(l2 with seed 0, ce with seed 0\)"),
        (["--index", "a.toml"], "--index a.toml needs --board too: an entry names both"),
        (["--index", "a.toml", "--board", "leaderboards/tiny"], "--index a.toml needs --licence too"),
        (["0" * 16, "--seed", "1"], "key 0000000000000000 already says which network to export; leave out"),
    ],
)
def test_an_export_that_cannot_be_is_refused(own, bench_, words, problem):
    code, out, err = bench_("store", "export", *words, "--out", "x")
    assert code and not out and re.match(f"bench: {problem}", err) and err.count("\n") == 1
    assert not (own / "x").exists()


def test_weights_without_records_have_a_card(checkout, own, bench_, l2):
    shutil.copytree(checkout / "store" / "trained", own / "bare" / "trained")
    assert bench_("store", "export", l2.key, "--out", "x", "--store", "bare")[0] == 0
    card = (own / "x" / f"{l2.key}.md").read_text()
    assert "There were no records of it." in card and "| commit | not known |" in card


def test_an_entry_is_added_once(checkout, own, bench_):
    words = ["--board", "leaderboards/tiny", "--defense", "l2", "--licence", "MIT", "--index", "bench/zoo.toml"]
    before = (own / "bench" / "zoo.toml").read_text()
    code, _, err = bench_("store", "export", *words, "--out", "x", "--store", str(checkout / "store"))
    assert code == 2 and "bench/zoo.toml: network[2] has the name 'tiny/l2/" in err
    assert (own / "bench" / "zoo.toml").read_text() == before


def test_networks_are_listed_with_their_figures(own, bench_, l2):
    code, out, err = bench_("zoo", "list")
    assert (code, err) == (0, "")
    figures = {
        (r.axes["defense"], r.metric.partition(":")[0]): f"{r.metric} {r.value:.3f}"
        for r in read_records(own / "leaderboards" / "tiny").records
    }
    rows = {line.split()[0]: re.split(" {2,}", line) for line in out.splitlines()[2:]}
    assert rows["tiny/l2/0"] == [
        *("tiny/l2/0", l2.key, f"{l2.bytes / 1e6:.1f}", "CC0-1.0"),
        *(figures["l2", "accuracy"], figures["l2", "topk_overlap"]),
    ]
    shutil.rmtree(own / "leaderboards")
    assert bench_("zoo", "list")[1].splitlines()[2].split()[-2:] == ["-", "-"]


def test_an_empty_zoo_says_so(bench_, monkeypatch):
    monkeypatch.setattr(zoo, "list_networks", lambda: ())
    code, _, err = bench_("zoo", "list")
    assert (code, err) == (0, "bench: the zoo has no networks yet; bench store export --index adds one\n")


def test_a_network_is_shown_and_exported(own, bench_, l2):
    code, out, _ = bench_("zoo", "show", "tiny/l2")
    assert code == 0
    for text in (l2.spec, l2.sha256, "CC0-1.0", l2.command, "shapes:size=16", "figure    accuracy 0."):
        assert text in out
    assert bench_("zoo", "export", "tiny/l2", "--out", "x")[:2] == (0, f"x/{l2.key}.safetensors\nx/{l2.key}.md\n")
    assert (own / "x" / l2.file).read_bytes() == (own / "networks" / l2.file).read_bytes()
    # Of the board's records alone, as the card that the store wrote.
    assert (own / "x" / f"{l2.key}.md").read_text() == (own / "networks" / f"{l2.key}.md").read_text()


def test_an_identity_gives_the_text_of_its_component(catalog):
    for kind in catalog.components:
        for cls in catalog.of(kind).values():
            for parameters in cls.examples:
                component = catalog.read(kind, f"{cls.name}:{parameters}" if parameters else cls.name)
                if kind != "dataset":
                    assert catalog.read(kind, write_text(component.identity)) == component


def test_the_index_of_a_checkout_is_valid(own, bench_):
    assert bench_("leaderboard", "validate") == (0, "1 submission, 6 records, 2 networks valid\n", "")


def move_axes(network):
    return dataclasses.replace(network, axes={**network.axes, "defense": "hessian", "seed": "4"})


def flip(own, file):
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)


BREAK = {
    "defense is 'hessian', but its spec says 'defense/l2@1(": lambda own, l2: edit(own, move_axes, "bench/zoo.toml"),
    "seed is '4', but its spec says '0'; export it again": lambda own, l2: edit(own, move_axes, "bench/zoo.toml"),
    "bytes and the sha256 ": lambda own, l2: flip(own, own / "leaderboards/tiny/weights" / l2.file),
    "is missing, and there is no url; add the file or an address": lambda own, l2: (
        own / "leaderboards/tiny/weights" / l2.file
    ).unlink(),
    "there is no board leaderboards/none; name the one that has the network's records": lambda own, l2: edit(
        own, lambda network: dataclasses.replace(network, board="none"), "bench/zoo.toml"
    ),
    "is in no entry of bench/zoo.toml; add one, or remove it": lambda own, l2: (own / "bench/zoo.toml").write_text(""),
    "board leaderboards/tiny has no record that was made with these weights": lambda own, l2: edit(
        own, lambda network: dataclasses.replace(network, sha256="0" * 64), "bench/zoo.toml"
    ),
    "is not a safetensors file of plain numbers": lambda own, l2: (
        own / "leaderboards/tiny/weights" / l2.file
    ).write_bytes(pickle.dumps([1])),
    "bytes of networks; at most 40000000 are allowed": lambda own, l2: (
        own / "leaderboards/tiny/weights" / f"{'0' * 16}.safetensors"
    ).write_bytes(bytes(39_990_000)),
    "leaderboards/tiny/weights/a.py is not a file of a board": lambda own, l2: (
        own / "leaderboards/tiny/weights/a.py"
    ).write_text("print()"),
    "bench/zoo.toml: network[0] has no licence": lambda own, l2: (own / "bench/zoo.toml").write_text(
        without("licence")
    ),
}


@pytest.mark.parametrize("problem", BREAK)
def test_a_false_index_is_told(own, l2, bench_, problem):
    BREAK[problem](own, l2)
    code, _, err = bench_("leaderboard", "validate")
    assert code == 1 and problem in err


def test_the_index_is_checked_without_torch(own):
    names = {"torch", "torchvision", "timm", "datasets"}
    code = f"import sys; sys.modules.update(dict.fromkeys({names!r})); from bench.cli import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, "leaderboard", "validate"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1 submission, 6 records, 2 networks valid\n", "")


def test_the_suite_has_a_valid_index():
    assert isinstance(zoo.parse_index(Path(zoo.__file__).with_name("zoo.toml").read_bytes(), "zoo.toml"), tuple)
