"""Lies to `verify`: a submission that was honest, changed in one way, its aggregates made to fit."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

sys.path.append(str(Path(__file__).parents[1] / "core"))

from submissions import describe

from bench.boards.board import read_board
from bench.boards.record import make_command, values_file
from bench.boards.statistics import summarise
from bench.boards.submissions.attachments import read_values
from bench.boards.submissions.validate import validate
from bench.cli.commands import main
from bench.keys import Spec

pytestmark = pytest.mark.campaign

PROTOCOL = """
title = "Lies"
metrics = ["accuracy", "topk_overlap", "insertion:steps=4"]
[axes]
dataset = ["shapes"]
split = ["test"]
model = ["lenet"]
schedule = ["quick:epochs=4,batch=32,limit=512"]
defense = ["ce", "l2"]
seed = [0]
explainer = ["gradient"]
attack = ["topk:steps=10", "topk:steps=1", "uniform_noise"]
eps = ["8/255"]
norm = ["linf"]
target = ["predicted"]
samples = [40]
[reference]
defense = "ce"
[fallback]
surrogate = "gradient"
[score]
metric = "topk_overlap"
attack = "topk:steps=10"
[tolerance]
accuracy = 0.06
topk_overlap = 0.06
insertion = 0.03
"""
ATTACK, SHORT = "topk:steps=10", "topk:steps=1"  # a flag says that the latter is too short


@dataclasses.dataclass
class Entry:
    """A record as a table, and its values (N, L)."""

    record: dict
    images: np.ndarray
    names: list
    values: np.ndarray
    kept: np.ndarray | None

    def store(self):
        """The record, with aggregates that follow from its values, and these as a table."""
        bounds = tuple(self.record["range"])
        summary = summarise(self.values, self.names, self.kept, bounds)
        record = {**self.record, **dataclasses.asdict(summary)}
        file = values_file(record["key"], self.images, self.names, self.values, self.kept)
        return json.dumps(record, sort_keys=True), pyarrow.parquet.read_table(io.BytesIO(file))


def bench(*words):
    with pytest.raises(SystemExit) as done:
        main(list(words))
    return done.value.code or 0


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A board with the suite's row and an honest submission of another, and the store that they came from."""
    top = tmp_path_factory.mktemp("lies")
    folder, store = top / "board", ("--store", str(top / "store"))
    folder.mkdir()
    (folder / "board.toml").write_text(PROTOCOL)
    assert bench("run", "--board", str(folder), "--seed", "0", *store) == 0
    for defense, name in (("ce", "suite"), ("l2", "acme")):
        words = ("--defense", defense, "--seed", "0", "--no-reference", "--name", name, *store)
        assert bench("leaderboard", "publish", str(folder), *words) == 0
        describe(folder, name)
    assert validate(folder) == []
    return folder, store


def read(folder, name="acme"):
    values = read_values(folder / "records" / f"{name}.values.parquet")
    entries = {}
    for line in (folder / "records" / f"{name}.jsonl").read_text().splitlines():
        record = json.loads(line)
        own = values[record["key"]]
        entry = Entry(record, own.images, list(own.names), own.values.copy(), own.kept)
        entries[record["metric"].partition(":")[0], record["axes"].get("attack", "")] = entry
    return entries


def write(folder, entries, name="acme"):
    stored = sorted((entry.store() for entry in entries.values()), key=lambda each: json.loads(each[0])["key"])
    (folder / "records" / f"{name}.jsonl").write_text("".join(f"{line}\n" for line, _ in stored))
    table = pyarrow.concat_tables([table for _, table in stored])
    pyarrow.parquet.write_table(table, folder / "records" / f"{name}.values.parquet")


def lie(metric="topk_overlap", attack=ATTACK):
    """Make a lie about one entry of a function that changes the entry, given those of the suite."""

    def wrap(change):
        LIES[change.__name__] = (metric, attack if metric == "topk_overlap" else "", change)
        return change

    return wrap


LIES = {}


@lie()
def more_than_the_tolerance_on_every_image(entry, suite):
    entry.values = np.minimum(1, entry.values + 0.1)


@lie()
def the_worst_images_are_the_best(entry, suite):
    entry.values[np.argsort(entry.values[:, 0])[:6]] = 1


@lie()
def one_lucky_image_in_four(entry, suite):
    entry.values[::4] = 1


@lie()
def the_values_in_order(entry, suite):
    entry.values = np.sort(entry.values, 0)


@lie()
def the_values_backwards(entry, suite):
    entry.values = np.sort(entry.values, 0)[np.argsort(np.argsort(-entry.values[:, 0]))]


@lie()
def the_mean_on_every_image(entry, suite):
    entry.values[:] = entry.values.mean()


@lie()
def what_noise_leaves(entry, suite):
    entry.values = suite["topk_overlap", "uniform_noise"].values


@lie()
def the_worst_images_are_undefined(entry, suite):
    entry.values[np.argsort(entry.values[:, 0])[:8]] = np.nan


@lie()
def no_prediction_is_kept_where_the_map_moved_most(entry, suite):
    entry.kept = np.argsort(np.argsort(entry.values[:, 0])) >= 20


@lie()
def every_other_prediction_is_kept(entry, suite):
    entry.kept = np.arange(len(entry.kept)) % 2 == 0


@lie(attack=SHORT)
def no_flag(entry, suite):
    entry.record["flags"] = []


@lie(attack=SHORT)
def another_flag_instead(entry, suite):
    entry.record["flags"] = ["few pixels: 3.0"]


@lie()
def the_attack_succeeds_always(entry, suite):
    entry.record["objective"]["success"] = 1.0 if entry.record["objective"]["success"] < 0.8 else 0.5


@lie()
def the_attack_lowers_its_objective_to_nothing(entry, suite):
    entry.record["objective"]["after"] = 0.0


@lie()
def no_objective(entry, suite):
    entry.record["objective"] = {}


@lie()
def half_of_the_images(entry, suite):
    entry.images, entry.values, entry.kept = entry.images[::2], entry.values[::2], entry.kept[::2]


@lie()
def other_images(entry, suite):
    entry.images = entry.images + 1


@lie()
def no_value_and_a_reason(entry, suite):
    entry.record["undefined_because"] = "the metric has no value here"
    entry.images, entry.values, entry.kept = entry.images[:0], entry.values[:0], None


@lie()
def less_is_better(entry, suite):
    entry.record["better"] = "lower"


@lie()
def a_cost_which_nobody_compares(entry, suite):
    entry.record["unit"] = "s"
    entry.values = np.minimum(1, entry.values + 0.3)


@lie()
def a_wider_range(entry, suite):
    entry.record["range"] = [0.0, 2.0]


@lie("insertion")
def one_level_up_and_the_others_down(entry, suite):
    entry.values = np.clip(entry.values + np.array([0.3, -0.075, -0.075, -0.075, -0.075]), 0, 1)


@lie("insertion")
def other_levels(entry, suite):
    entry.names = entry.names[::-1]


@lie("accuracy")
def always_right(entry, suite):
    entry.values[:] = 1


@lie("accuracy")
def other_images_are_right(entry, suite):
    entry.values = 1 - entry.values if 0.45 < entry.values.mean() < 0.55 else np.roll(entry.values, 7, 0)


@lie()
def another_seed(entry, suite):
    record = entry.record
    spec = Spec.parse(record["spec"])
    spec = dataclasses.replace(spec, choices={**spec.choices, "seed": "1"})
    record["axes"]["seed"] = "1"
    record |= {"spec": str(spec), "key": spec.key, "command": make_command(record["metric"], record["axes"])}


def test_the_honest_submission_is_confirmed(honest, capsys):
    folder, store = honest
    assert bench("leaderboard", "verify", str(folder), "--name", "acme", *store) == 0
    assert capsys.readouterr().out == "5 published records compared, 0 differ\n"


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_told(honest, tmp_path, capsys, name):
    metric, attack, change = LIES[name]
    folder = Path(shutil.copytree(honest[0], tmp_path / "board"))
    entries, suite = read(folder), read(folder, "suite")
    before = copy.deepcopy(entries[metric, attack])
    change(entries[metric, attack], suite)
    assert str(before) != str(entries[metric, attack])
    write(folder, entries)
    assert bench("leaderboard", "verify", str(folder), "--name", "acme", *honest[1]) == 1
    out, err = capsys.readouterr()
    assert out == "5 published records compared, 1 differs\n"
    assert all(line.startswith(f"bench: {metric}") and " of defense l2" in line for line in err.splitlines())


def half_of_the_tolerance(entry):
    entry.values = np.minimum(1, entry.values + 0.03)


def all_of_it_on_half_of_the_images(entry):
    entry.values[::2] = np.minimum(1, entry.values[::2] + 0.06)


def a_grain_on_every_other_image(entry):
    entry.values[::2] = np.minimum(1, entry.values[::2] + 0.05)


@pytest.mark.parametrize(
    "change", [half_of_the_tolerance, all_of_it_on_half_of_the_images, a_grain_on_every_other_image]
)
def test_what_is_confirmed_all_the_same_puts_no_row_ahead(honest, tmp_path, change):
    folder = Path(shutil.copytree(honest[0], tmp_path / "board"))

    def tie(name, change=lambda entry: None):
        """Give a submission the suite's values, changed."""
        entries, suite = read(folder, name), read(honest[0], "suite")
        for key, entry in entries.items():
            entry.values, entry.kept = suite[key].values.copy(), suite[key].kept
            if key == ("topk_overlap", ATTACK):
                entry.record["flags"] = []
                change(entry)
        write(folder, entries, name)

    tie("suite")
    tie("acme", change)
    ranks = {row.axes["defense"]: str(row.rank) for row in read_board(folder).rows}
    assert ranks == {"ce": "1-2", "l2": "1-2"}
