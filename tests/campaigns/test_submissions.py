"""Hostile submissions from a seeded generator, over every field and file: each is refused in lines that are safe to
print, or built and inert, and it moves nobody else's row."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from submissions import BASE, META, describe, identity
from test_hostile import TEXTS, inert

from bench.axes import AXES
from bench.boards.board import ROW, read_board, row_name
from bench.boards.pairs import rank
from bench.boards.record import VERSION, Record, make_command, values_file
from bench.boards.render.site import render_board
from bench.boards.statistics import summarise
from bench.boards.submissions.validate import validate
from bench.keys import hash_spec, needs_quotes
from bench.shapes import is_hidden

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(1200)]

TRIALS, SEED = 300, 0
PROTOCOL = """
title = "Campaign"
metrics = ["accuracy", "topk_overlap", "kept_rate", "insertion", "itself", "passes"]
[axes]
dataset = ["shapes"]
split = ["test"]
model = ["lenet"]
schedule = ["quick"]
defense = ["ce", "l2"]
seed = [0, 1]
explainer = ["gradient", "lrp"]
attack = ["strong", "topk", "noise", "still", "later"]
eps = ["8/255", "1/2"]
norm = ["linf"]
target = ["predicted"]
samples = [12]
[reference]
defense = "ce"
[fallback]
surrogate = "gradient"
[score]
metric = "topk_overlap"
attack = "strong"
ceiling = "still"
noise = "noise"
ties = "itself"
within = ["explainer"]
against = "accuracy"
cost = "passes"
[tolerance]
topk_overlap = 0.06
[[row]]
defense = "ce"
seed = [2]
"""
IMAGES = np.arange(12) * 3
LEFT = {"strong": 0.3, "topk": 0.5, "noise": 0.8, "still": 1.0}
DRAWN = "drawn for tests"


def plain(text):
    """The text without halves of characters, which Parquet does not take."""
    return text.encode("utf-8", "ignore").decode()


@dataclass
class Sent:
    """A submission before it is written: its records as tables, the values of their images, metadata, other files."""

    name: str
    records: list[dict] = field(default_factory=list)
    values: list[dict] = field(default_factory=list)
    meta: dict = field(default_factory=lambda: dict(META))
    after: list = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def add(self, metric, axes, values, names=("",), kept=None, images=IMAGES, **fields):
        chosen = {axis: identity(axis, text) for axis, text in axes.items()}
        spec = json.dumps([f"record@{VERSION}/{identity('metric', metric)}", {"network": 1}, chosen])
        record = Record(
            metric, dict(axes), None, None, 0, None, 0, None, {}, "higher", "", f"what {metric} is", {"trained": 1.5},
            (), "", "", "", spec, range=(0.0, 1.0), provenance={"device": "CPU", "data": DRAWN},
        )  # fmt: skip
        self.records.append({**dataclasses.asdict(record), **fields})
        values = np.array(values, float).reshape(len(images), -1)
        self.values.append({"images": np.array(images), "names": list(names), "values": values, "kept": kept})

    def repair(self, place):
        """Make a record agree with its spec and its values, as a careful liar would."""
        record, own = self.records[place], self.values[place]
        bounds = record.get("range", (0.0, 1.0))
        record |= dataclasses.asdict(summarise(own["values"], own["names"], own["kept"], tuple(bounds)))
        record |= {"key": hash_spec(record["spec"]), "command": make_command(record["metric"], record["axes"])}

    def write(self, folder):
        place = folder / "records"
        place.mkdir(exist_ok=True)
        lines = [json.dumps(record, sort_keys=True) for record in self.records]
        (place / f"{self.name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
        tables = [
            values_file(plain(record["key"]), own["images"], [*map(plain, own["names"])], own["values"], own["kept"])
            for record, own in zip(self.records, self.values, strict=True)
            if isinstance(record.get("key"), str)
        ]
        tables = tables or [values_file("0" * 16, IMAGES, [""], np.zeros((12, 1)), None)]
        joined = pyarrow.concat_tables([pyarrow.parquet.read_table(io.BytesIO(table)) for table in tables])
        pyarrow.parquet.write_table(joined, place / f"{self.name}.values.parquet")
        describe(folder, self.name, **self.meta)
        for change in self.after:
            change(folder)


def make_rows(name, rows, seeds=("0",), shift=0.0):
    """An honest submission: all columns of some rows, (defense, explainer)."""
    sent, done = Sent(name), set()
    for defense, explainer in rows:
        for seed in seeds:
            draw = np.random.default_rng(sum(map(ord, defense + explainer + seed)))
            data = {**BASE, "defense": defense, "seed": seed}
            if (defense, seed) not in done:
                sent.add("accuracy", data | {"samples": "12"}, draw.random(12) < 0.8, grain=1.0)
                trained = {axis: text for axis, text in data.items() if axis != "split"}
                fields = {"unit": "passes", "better": "lower", "range": (0.0, None), "grain": 1.0}
                sent.add("passes", trained, [100 + len(defense)], images=[-1], **fields)
                done.add((defense, seed))
            maps = data | {"explainer": explainer, "target": "predicted", "samples": "12"}
            sent.add("itself", maps, np.ones(12), grain=0.05)
            sent.add("insertion", maps, draw.random((12, 2)), names=("0%", "50%"))
            for attack, left in LEFT.items():
                under = maps | {"surrogate": explainer, "attack": attack, "ball": "linf:8/255"}
                follows = attack in ("strong", "topk")
                objective = {"before": 1.0, "after": 0.5, "success": 1.0} if follows else {}
                kept = draw.random(12) < 0.9
                values = np.clip(np.rint((left + shift + 0.1 * draw.normal(size=12)) * 20) / 20, 0, 1)
                values = np.ones(12) if attack == "still" else values
                sent.add("topk_overlap", under, values, kept=kept, grain=0.05, objective=objective)
                images = {axis: text for axis, text in under.items() if axis != "explainer"}
                sent.add("kept_rate", images, kept, kept=kept, grain=1.0, objective=objective)
    for place in range(len(sent.records)):
        sent.repair(place)
    return sent


TEXT = [
    "l2",
    "ce",
    "gradient",
    "lrp",
    "topk",
    "strong",
    "later",
    "0",
    "2",
    "12",
    "linf:1/2",
    "mine:a=1",
    *TEXTS.values(),
]
NUMBERS = [0, -1, 1, 7.5, 1e15, -3, 50, 0.9876, 10**400, 1e300, float("nan"), float("inf"), 0.3333, True]


def any_value(draw):
    choices = [
        lambda: draw.choice(TEXT),
        lambda: draw.choice(NUMBERS),
        lambda: None,
        lambda: [draw.choice(TEXT), draw.choice(NUMBERS)][: draw.randrange(3)],
        lambda: {draw.choice(TEXT): draw.choice([*NUMBERS, *TEXT]) for _ in range(draw.randrange(3))},
        lambda: [[[[[[[[1]]]]]]]],
    ]
    return draw.choice(choices)()


def change_field(draw, sent, place):
    record = sent.records[place]
    name = draw.choice([*record, "extra"])
    record[name] = any_value(draw)


def change_field_deep(draw, sent, place):
    record = sent.records[place]
    name = draw.choice(["axes", "cost", "levels", "objective", "provenance", "flags", "ci95", "range"])
    part = copy.deepcopy(record[name])
    if isinstance(part, dict):
        part[draw.choice([*part, draw.choice(TEXT)])] = any_value(draw)
        record[name] = part
    else:
        record[name] = [*(part or ()), any_value(draw)]


def change_text(draw, sent, place):
    text = draw.choice(TEXT)
    sent.texts.append(text)
    record = sent.records[place]
    name = draw.choice(["help", "unit", "paper", "undefined_because", "flags", "device", "weights", "papers", "data"])
    if name in ("device", "weights", "data"):
        record["provenance"] = {**record["provenance"], name: text}
    elif name == "papers":
        record["provenance"] = {**record["provenance"], name: {draw.choice([text, "dataset shapes"]): text}}
    else:
        record[name] = [text] if name == "flags" else text


def change_axis(draw, sent, place):
    """Another choice, or one more or less, in the spec too."""
    record = sent.records[place]
    axis = draw.choice(AXES)
    axes = dict(record["axes"])
    how = draw.randrange(4)
    if how == 0:
        axes.pop(axis, None)
    else:
        text = draw.choice(TEXT)
        text = (
            text
            if how == 1
            else f"{axes.get(axis, 'mine')}:note={text}"
            if how == 2
            else f"mine:note={json.dumps(text)}"
        )
        sent.texts.append(text)
        axes[axis] = text
    made, versions, chosen = json.loads(record["spec"])
    chosen.pop(axis, None)
    if axis in axes:
        chosen[axis] = identity(axis, axes[axis])
    record |= {"axes": axes, "spec": json.dumps([made, versions, chosen])}
    sent.repair(place)


def change_all_axes(draw, sent, place):
    """The same other choice in all records: a whole row of a stranger, or of somebody else."""
    axis = draw.choice(["defense", "defense", "explainer", "surrogate", "attack", "seed", "schedule"])
    text = draw.choice(TEXT)
    written = json.dumps(text, ensure_ascii=False) if needs_quotes(text) else text
    rename(sent, axis, draw.choice([text, f"mine:note={written}", f"mine:note={written}"]))
    sent.texts.append(text)


def rename(sent, axis, text):
    """Make another choice in all records; that of an explainer which the attack follows in both places."""
    for number, record in enumerate(sent.records):
        own = record["axes"].get("surrogate") != record["axes"].get("explainer", record["axes"].get("surrogate"))
        for each in (axis,) if axis != "explainer" or own else ("explainer", "surrogate"):
            if each in record["axes"]:
                record["axes"] = {**record["axes"], each: text}
                made, versions, chosen = json.loads(record["spec"])
                record["spec"] = json.dumps([made, versions, {**chosen, each: identity(each, text)}])
        sent.repair(number)


def change_level(draw, sent, place):
    """A whole column of values that can be, however good, or undefined for many images."""
    metric, value, gone = (
        draw.choice(["topk_overlap", "accuracy", "itself"]),
        draw.choice([0.0, 1.0]),
        draw.randrange(12),
    )
    for number, record in enumerate(sent.records):
        if record["metric"] == metric:
            sent.values[number]["values"][:] = value
            sent.values[number]["values"][:gone] = np.nan
            sent.repair(number)


def change_spec(draw, sent, place):
    record = sent.records[place]
    made, versions, chosen = json.loads(record["spec"])
    how = draw.randrange(5)
    if how == 0:
        made = draw.choice([made.replace("@1(", "@99("), made.replace("()", "(k=3072)"), made[:-1], draw.choice(TEXT)])
    elif how == 1:
        versions = draw.choice([{}, {"network": 2}, {"network": 1, "other": 1}, {"network": "1"}, {"network": 10**12}])
    elif how == 2:
        axis = draw.choice(list(chosen))
        chosen[axis] = draw.choice(
            [f"{chosen[axis][:-1]}steps=0)", chosen[axis].replace("@1", "@2"), draw.choice(TEXT)]
        )
    elif how == 3:
        chosen[draw.choice(AXES)] = draw.choice(TEXT)
    else:
        chosen.pop(draw.choice(list(chosen)))
    record["spec"] = json.dumps([made, versions, chosen])
    sent.repair(place)


def change_values(draw, sent, place):
    own, count = sent.values[place], len(sent.values[place]["images"])
    some = draw.randrange(count)
    how = draw.randrange(8)
    if how == 0:
        own["values"][some] = draw.choice([50, -3, 0.9876, 7.5, 1e300, 1e15, 0, 1])
    elif how == 1:
        own["values"][draw.randrange(count) :] = np.nan
    elif how == 2:
        own["values"][:] = draw.choice([0, 1, 0.5, 1e15, -1])
    elif how == 3:
        own["images"] = own["images"][::-1] if draw.random() < 0.5 else own["images"] - draw.randrange(1, 4)
    elif how == 4:
        keep = max(1, some)
        own |= {name: own[name] if own[name] is None else own[name][:keep] for name in ("images", "values", "kept")}
    elif how == 5:
        own["names"] = [draw.choice(TEXT)[:50] for _ in own["names"]]
    elif how == 6:
        own["kept"] = draw.choice([None, np.zeros(count, bool), np.ones(count, bool)])
    else:
        own["values"] = own["values"] + 0.03
    if draw.random() < 0.8:
        sent.repair(place)


def change_claim(draw, sent, place):
    """The fields that a careful liar would choose."""
    record = sent.records[place]
    record |= draw.choice(
        [
            {"better": "lower"},
            {"better": "higher"},
            {"range": [0.0, 100.0]},
            {"range": [None, None]},
            {"grain": None},
            {"grain": 1e-6},
            {"unit": "s"},
            {"objective": {}},
            {"objective": {"before": 1.0, "after": -5.0, "success": 1.0}},
            {"flags": ["unreliable: moved further by noise"]},
            {"flags": ["nothing moved"]},
            {"flags": ["transfer: the attack followed gradient"]},
            {"cost": {"trained": 0.0}},
            {"cost": {}},
            {"undefined_because": "it cannot be measured"},
            {"provenance": {"device": "GPU"}},
        ]
    )
    sent.repair(place)


def leave_out(draw, sent, place):
    count = draw.randrange(1, len(sent.records))
    for number in sorted(draw.sample(range(len(sent.records)), count), reverse=True):
        del sent.records[number], sent.values[number]


def take_another_row(draw, sent, place):
    """Records of the suite's rows, or under its columns that nobody has measured."""
    other = make_rows(
        "other", [draw.choice([("ce", "gradient"), ("ce", "lrp"), ("l2", "gradient")])], (draw.choice("012"),)
    )
    numbers = draw.sample(range(len(other.records)), draw.randrange(1, 4))
    for number in numbers:
        record = other.records[number]
        if draw.random() < 0.5 and "attack" in record["axes"]:
            axis, text = draw.choice(
                [("attack", "later"), ("attack", "own"), ("ball", "linf:1/2"), ("surrogate", "lrp")]
            )
            record["axes"] = {**record["axes"], axis: text}
            made, versions, chosen = json.loads(record["spec"])
            record["spec"] = json.dumps([made, versions, {**chosen, axis: identity(axis, text)}])
            other.repair(number)
    sent.records += [other.records[number] for number in numbers]
    sent.values += [other.values[number] for number in numbers]


def change_meta(draw, sent, place):
    key = draw.choice([*META, "supersedes", "extra"])
    text = draw.choice(TEXT)
    sent.texts.append(text)
    values = [text, [text], 2026, None, [], ["suite"], ["nobody"], [sent.name], draw.choice([10**20, -5, True])]
    sent.meta[key] = draw.choice(values)


def change_name(draw, sent, place):
    sent.name = draw.choice(["su1te", "honest2", "h0nest", "honest.x", "suite-2", "a" * 64, "0", "x_", "acme..b"])


def change_bytes(draw, sent, place):
    part = draw.choice(["jsonl", "values.parquet", "toml"])
    how, number, byte = draw.randrange(4), draw.random(), draw.randrange(256)

    def change(folder):
        file = folder / "records" / f"{sent.name}.{part}"
        raw = bytearray(file.read_bytes())
        at = int(number * len(raw))
        if how == 0:
            raw[at] ^= byte
        elif how == 1:
            del raw[at:]
        elif how == 2:
            raw[at:at] = bytes([byte]) * 20
        else:
            raw = bytearray((folder / "records" / f"honest.{part}").read_bytes())
        file.write_bytes(bytes(raw))

    sent.after.append(change)


def add_file(draw, sent, place):
    name = draw.choice(
        ["README.md", "board.toml", "index.html", "records/x.py", ".git/x", f"records/{sent.name}.jsonl.unfinished",
         f"examples/{sent.name}/{'0' * 16}.png", "examples/suite/x.png", "verified.toml", "records/suite.jsonl"]
    )  # fmt: skip

    def add(folder):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if draw.random() < 0.3:
            file.unlink(missing_ok=True)
            file.symlink_to("/etc/passwd")
        else:
            file.write_bytes(draw.choice([b"", b"<script>", b"\x00" * 9, b"{}\n"]))

    sent.after.append(add)


def add_picture(draw, sent, place):
    axes = draw.choice(sent.records)["axes"]
    form, count = draw.choice(["PNG", "PNG", "GIF"]), draw.choice([0, 0, 9])
    stream = io.BytesIO()
    Image.new("RGB", (draw.randrange(1, 40), 4)).save(stream, form)

    def add(folder):
        place = folder / "examples" / sent.name
        place.mkdir(parents=True, exist_ok=True)
        row = row_name({axis: axes[axis] for axis in ROW if axis in axes})
        (place / f"{row}.png").write_bytes(stream.getvalue() + bytes(count))

    sent.after.append(add)


CHANGES = (
    change_field, change_field_deep, change_text, change_axis, change_all_axes, change_spec, change_values,
    change_level, change_claim, leave_out, take_another_row, change_meta, change_name, change_bytes, add_file,
    add_picture,
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A board with rows of the suite and of an honest stranger."""
    folder = tmp_path_factory.mktemp("campaign") / "board"
    folder.mkdir()
    (folder / "board.toml").write_text(PROTOCOL)
    make_rows("suite", [("ce", "gradient"), ("ce", "lrp"), ("l2", "gradient"), ("l2", "lrp")], ("0", "1")).write(folder)
    make_rows("honest", [("good", "gradient")], ("0", "1"), shift=0.15).write(folder)
    assert validate(folder) == []
    return folder


def describe_rows(board, names):
    """What a board says of some rows, and how these rank among themselves."""
    rows = {row.name: row for row in board.rows}
    said = {}
    for name in names:
        row = rows[name]
        own = {
            column: (e.value, e.ci95, e.lost, e.under, sorted({f for r in e.records for f in r.flags}))
            for column, e in row.estimates.items()
            if column.attack != "own" and "own" not in column.attack
        }
        standing = row.standing and (row.standing.value.value, row.standing.value.ci95)
        said[name] = (own, row.missing, row.control, row.group, standing)
    groups = {}
    for name in sorted(names):
        if rows[name].standing and not rows[name].missing and not rows[name].control:
            groups.setdefault(rows[name].group, []).append(rows[name].standing.value)
    return said, {group: [str(place) for place in rank(values)] for group, values in groups.items()}


def send(base, folder, draw):
    """Write a hostile submission into a copy of the board; what was changed in it."""
    shutil.copytree(base, folder, symlinks=True)
    rows = [(draw.choice(["mine", "mine:rate=0.5"]), draw.choice(["gradient", "lrp"]))]
    rows = draw.choice([rows, [("ce", "other")], [*rows, ("ce", "other:steps=8")]])
    sent = make_rows(draw.choice(["acme", "zeta"]), rows, ("0", "1"), shift=draw.choice([-0.2, 0.0, 0.3]))
    # What the suite has is left out, as `publish` does.
    keys = {json.loads(line)["key"] for line in (base / "records" / "suite.jsonl").read_text().splitlines()}
    kept = [place for place, record in enumerate(sent.records) if record["key"] not in keys]
    sent.records, sent.values = [sent.records[p] for p in kept], [sent.values[p] for p in kept]
    changes = draw.sample(CHANGES, draw.choice([0, 1, 1, 1, 2, 3])) if draw.random() < 0.97 else []
    for change in changes:
        # One change may leave nothing that another could change.
        with contextlib.suppress(TypeError, ValueError, LookupError, AttributeError, ArithmeticError):
            change(draw, sent, draw.randrange(len(sent.records)))
    sent.write(folder)
    return [change.__name__ for change in changes], sent.texts


def test_hostile_submissions_are_refused_or_move_nobody(base, tmp_path, capsys):
    before = read_board(base)
    names = {row.name for row in before.rows}
    known = describe_rows(before, names)
    outcomes, by_change = Counter(), Counter()
    for trial in range(TRIALS):
        draw = random.Random(f"{SEED}/{trial}")
        folder = tmp_path / str(trial) / "board"
        changes, texts = send(base, folder, draw)
        lines = validate(folder, base=base)
        for line in lines:
            assert "\n" not in line and len(line) < 1100 and not any(map(is_hidden, line)), (trial, changes, line)
        outcome = "refused" if lines else "taken"
        outcomes[outcome] += 1
        by_change.update((change, outcome) for change in changes or ["nothing"])
        if not changes:
            assert not lines, (trial, lines)
        if not lines:
            board = read_board(folder)
            assert names <= {row.name for row in board.rows}, (trial, changes)
            assert describe_rows(board, names) == known, (trial, changes)
            for name, content in render_board(board).items():
                for text in texts or [""]:
                    inert(name, content, text)
        shutil.rmtree(folder.parent)
    with capsys.disabled():
        print(f"\n{TRIALS} trials: {dict(outcomes)}")
        for change in sorted({change for change, _ in by_change}):
            print(f"  {change}: {by_change[change, 'refused']} refused, {by_change[change, 'taken']} taken")


def test_every_trial_is_the_same_again(base, tmp_path):
    folders = [tmp_path / name / "board" for name in "ab"]
    told = [send(base, folder, random.Random(f"{SEED}/7")) for folder in folders]
    assert told[0] == told[1]
    files = [{path.name: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()} for folder in folders]
    assert files[0] == files[1]
