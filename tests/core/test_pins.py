"""What a board says of its data and files: nothing runs, and nothing is written, on anything else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
from PIL import Image

import bench
from bench.boards.folder import read_records
from bench.boards.protocol import parse_protocol, read_protocol
from bench.boards.submissions.validate import validate
from bench.components.files import use_data_dir
from bench.errors import BadValue

BOARDS = sorted((Path(__file__).parents[2] / "leaderboards").glob("*/board.toml"))
PROTOCOL = """
metrics = ["accuracy"]
[axes]
dataset = ["{dataset}"]
split = ["test"]
model = ["lenet"]
schedule = ["quick:epochs=1,batch=32,limit=20"]
defense = ["{defense}"]
seed = [0]
explainer = ["gradient"]
attack = ["no_attack"]
eps = ["8/255"]
norm = ["linf"]
target = ["predicted"]
samples = [4]
[reference]
defense = "{defense}"
[fallback]
surrogate = "gradient"
"""


def put_cifar10(folder, seed=0):
    """Fill a data folder with noise in place of CIFAR-10."""
    draw = np.random.default_rng(seed)
    for split, count in (("train", 30), ("test", 10)):
        for row in range(count):
            place = folder / "cifar10" / split / ("cat", "dog")[row % 2] / f"{row:05}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (32, 32, 3), np.uint8)).save(place)
    return folder


def put_board(tmp_path, dataset="cifar10", defense="ce", more=""):
    folder = tmp_path / "leaderboards" / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "board.toml").write_text(PROTOCOL.format(dataset=dataset, defense=defense) + more)
    return folder


def pin(dataset, fingerprint):
    return f'[[data]]\ndataset = "{dataset}"\nfingerprint = "{fingerprint}"\nsource = "the noise of seed 0"\n'


def pin_file(name, content, url=""):
    sums = f'sha256 = "{hashlib.sha256(content).hexdigest()}"\nbytes = {len(content)}\n'
    return f'[[file]]\nname = "{name}"\n{sums}' + (f'url = "{url}"\n' if url else "")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("dataset", ["cifar10", "cifar10:variant=jpeg"])
def test_a_board_runs_on_its_own_data_alone(bench_, tmp_path, store, dataset):
    own, other = put_cifar10(tmp_path / "own"), put_cifar10(tmp_path / "other", seed=1)
    with use_data_dir(own):
        found = bench.component("dataset", dataset).identity.partition("#")[2]
    folder = put_board(tmp_path, dataset, more=pin(dataset, found))
    for command in (
        ("run", "--board", str(folder)),
        ("plan", "--board", str(folder)),
        ("leaderboard", "publish", str(folder)),
        ("leaderboard", "verify", str(folder)),
    ):
        code, out, err = bench_(*command, "--data-dir", str(other))
        assert (code, out) == (3, "") and err.count("\n") == 1 and not store.root.exists()
        assert f"dataset {dataset}: the images here are #" in err
        assert err.endswith(f", but the board wants #{found}; take the noise of seed 0\n")
        assert [file.name for file in folder.iterdir()] == ["board.toml"]
    code, _, err = bench_("run", "--board", str(folder), "--data-dir", str(own))
    assert (code, err) == (0, "")
    assert bench_("leaderboard", "publish", str(folder), "--data-dir", str(own))[0] == 0
    code, _, err = bench_("leaderboard", "verify", str(folder), "--name", "suite", "--data-dir", str(other))
    assert code == 3 and err.endswith(f", but the board wants #{found}; take the noise of seed 0\n")
    code, _, err = bench_("run", "--board", str(folder), "--data-dir", str(other), "--dataset", "shapes")
    assert (code, err) == (0, "")


def test_missing_data_come_with_the_boards_word_on_where_to_get_them(bench_, tmp_path, store):
    folder = put_board(tmp_path, more=pin("cifar10", "0123456789abcdef"))
    code, out, err = bench_("run", "--board", str(folder), "--data-dir", str(tmp_path))
    assert (code, out) == (3, "") and err.count("\n") == 1 and not store.root.exists()
    assert "looked in" in err and err.endswith("; the board wants the noise of seed 0\n")


@pytest.fixture
def weights():
    network = bench.component("model", "lenet").build((3, 32, 32), 10)
    return safetensors.torch.save(network.state_dict())


def test_files_of_a_board_are_fetched_and_checked(bench_, tmp_path, site, weights):
    place, address = site
    (place / "net.safetensors").write_bytes(weights)
    defense = "weights:path=weights/net.safetensors"
    more = pin_file("weights/net.safetensors", weights, f"{address}/net.safetensors")
    folder = put_board(tmp_path, "shapes", defense, more)
    code, out, err = bench_("run", "--board", str(folder), "--json")
    assert (code, err) == (0, "")
    (fetched,) = json.loads(out)
    (place / "net.safetensors").unlink()
    assert bench_("run", "--board", str(folder))[0] == 0  # from the cache

    data = tmp_path / "data"
    (data / "weights").mkdir(parents=True)
    (data / "weights" / "net.safetensors").write_bytes(weights)
    code, out, err = bench_("run", "--board", str(folder), "--json", "--data-dir", str(data))
    (local,) = json.loads(out)
    assert (code, err) == (0, "") and local["key"] == fetched["key"] and local["axes"] == fetched["axes"]
    (data / "weights" / "net.safetensors").write_bytes(weights[:-1] + b"\0")
    code, out, err = bench_("run", "--board", str(folder), "--data-dir", str(data))
    assert (code, out) == (3, "") and err.count("\n") == 1
    assert f"{data}/weights/net.safetensors has the sha256 " in err and f"; take it from {address}/" in err


def test_a_folder_of_files_is_fetched_and_checked_whole(bench_, tmp_path, site):
    place, address = site
    source = put_cifar10(tmp_path / "pictures") / "cifar10"
    (place / "pictures").mkdir()
    more = ""
    for file in sorted(source.rglob("*.png")):
        name = f"pictures/{file.relative_to(source)}"
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(file.read_bytes())
        more += pin_file(name, file.read_bytes(), f"{address}/{name}")
    folder = put_board(tmp_path, "folder:path=pictures,size=32", more=more)
    code, _, err = bench_("run", "--board", str(folder))
    assert (code, err) == (0, "")
    code, _, err = bench_("run", "--board", str(folder), "--data-dir", str(place))  # the same set from a folder
    assert (code, err) == (0, "")
    code, out, _ = bench_("plan", "--board", str(folder), "--data-dir", str(place))
    assert out.startswith("1 cells done, 0 to do")
    (place / "pictures" / "test" / "cat" / "00000.png").unlink()
    code, _, err = bench_("run", "--board", str(folder), "--data-dir", str(place))
    assert code == 3 and "test/cat/00000.png cannot be read (No such file or directory); take it from http" in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (pin("cifar10", "xyz"), r"data\.\[0\]\.fingerprint is 'xyz', must be what follows # in the set's identity"),
        (pin("cifar 10", "ab"), r"data\.\[0\]\.dataset has 'cifar 10'"),
        ('[[data]]\ndataset = "cifar10"\n', r"data\.\[0\] has no fingerprint, source; add what is missing"),
        (pin_file("../net", b"a"), r"file\.\[0\]\.name is '\.\./net', must be a path below the data folder, such as"),
        (pin_file("/etc/net", b"a"), r"name is '/etc/net', must be a path below the data folder"),
        (pin_file("a/./net", b"a"), r"name is 'a/\./net', must be a path below the data folder"),
        (pin_file("net", b""), r"bytes is 0, must be a whole number from 1"),
        (
            pin_file("net", b"a", "file:///etc/passwd"),
            r"url is 'file:///etc/passwd', must be an address, such as https",
        ),
        ('[[file]]\nname = "net"\nsha256 = "ab"\nbytes = 1\n', r"sha256 is 'ab', must be 64 digits from 0 to f"),
    ],
)
def test_pins_that_are_wrong_are_named(more, message):
    text = PROTOCOL.format(dataset="cifar10", defense="ce") + more
    with pytest.raises(BadValue, match=message.replace(r"\.\[", r"\[")):
        parse_protocol(text.encode(), "board.toml")


def test_submissions_on_other_data_are_refused(tiny):
    assert validate(tiny) == []
    with (tiny / "board.toml").open("a") as file:
        file.write('[[data]]\ndataset = "shapes"\nfingerprint = "abc"\nsource = "a place"\n')
    (line,) = {text.partition(": ")[2] for text in validate(tiny) if "acme" in text}
    assert "its images are #, not #abc as the board wants; take a place" in line


@pytest.mark.parametrize("file", BOARDS, ids=lambda file: file.parent.name)
def test_boards_pin_the_data_that_they_were_measured_on(file):
    protocol = read_protocol(file.parent)
    pins = {pin.dataset: pin.fingerprint for pin in protocol.data}
    identities = {
        (record.axes["dataset"], json.loads(record.spec)[2]["dataset"])
        for record in read_records(file.parent).records
        if "dataset" in record.axes
    }
    for text, identity in identities:
        if "path=" in text:  # the checksum in the text is that of files, which are pinned themselves
            assert protocol.files
            continue
        assert identity.partition("#")[2] == pins.get(text, "")
