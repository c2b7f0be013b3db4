"""What a new run has to confirm, who may do what to whom on a board, and what a board says of who ran its rows."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import random
import re
import shutil

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
import pytest
from submissions import describe, made, submit
from test_leaderboard import PROTOCOL as TINY
from test_standing import BALL, COUNT, ROWS, TOML, build, ranks, row_of, spread

from bench.boards.board import read_board
from bench.boards.columns import Column
from bench.boards.marks import VERIFIED, add_mark, read_marks
from bench.boards.protocol import parse_protocol
from bench.boards.record import Record
from bench.boards.render.site import render_board, render_overview
from bench.boards.render.wording import label_row
from bench.boards.reruns import COMPARED, Run, compare_runs, find_new_flags
from bench.boards.standing import Standing, find_margin
from bench.boards.statistics import Estimate
from bench.boards.submissions.attachments import Values
from bench.boards.submissions.validate import inspect, validate
from bench.engine import provenance
from bench.errors import BadValue

TOLERANT = TOML.replace("[score]", "[tolerance]\noverlap = 0.06\nitself = 0.01\n[score]")
COMMIT = "c" * 40


def give(place, name, chosen):
    """Make those records of the suite that `chosen` picks a submission of another name."""
    folder = place / "records"
    records = [Record.parse(line) for line in (folder / "suite.jsonl").read_bytes().splitlines()]
    table = pyarrow.parquet.read_table(folder / "suite.values.parquet")
    parts = {name: [r for r in records if chosen(r)], "suite": [r for r in records if not chosen(r)]}
    for part, mine in parts.items():
        (folder / f"{part}.jsonl").write_text("".join(r.line() + "\n" for r in mine))
        keys = pyarrow.array([r.key for r in mine], pyarrow.string())
        rows = table.filter(pyarrow.compute.is_in(table["key"], keys))
        pyarrow.parquet.write_table(rows, folder / f"{part}.values.parquet")
    describe(place, name)
    return read_board(place)


def of(defense):
    return lambda record: record.axes["defense"] == defense


def run(values, kept=None, **fields):
    """A record of an overlap in [0, 1] and its values (N, L), in memory."""
    values = np.array(values, float).reshape(len(values), -1)
    images = np.arange(len(values))
    names, same = [str(i) for i in range(values.shape[1])], None if kept is None else np.array(kept)
    axes = {"defense": "ce", "attack": "topk", "explainer": "gradient"}
    record, _ = made("overlap", axes, values, names, same, images)
    record = Record(**{**record, "flags": tuple(record["flags"]), **fields})
    return Run(record, Values(images, tuple(names), values, same))


PROTOCOL = parse_protocol(TOLERANT.encode(), "x")
DRAW = random.Random(0)
HONEST = [DRAW.uniform(0.2, 0.6) for _ in range(50)]
KEPT = [i % 5 > 0 for i in range(50)]
FOUND = {"before": 0.8, "after": 0.2, "success": 0.9}


def differences(**changes):
    then = run(HONEST, KEPT, objective=FOUND)
    now = run(changes.pop("values", HONEST), changes.pop("kept", KEPT), objective=FOUND)
    now = Run(dataclasses.replace(now.record, **changes), now.values)
    (lines,) = compare_runs(PROTOCOL, [then], {then.record.key: now}).values()
    return lines


def test_the_same_run_again_differs_in_nothing():
    assert differences() == []


def test_single_images_may_differ_by_more_than_the_tolerance_on_average():
    for size, fits in ((0.14, True), (0.16, False)):
        moved = [value + size * (-1) ** i for i, value in enumerate(HONEST)]
        by_hand = sum(abs(a - b) for a, b in zip(HONEST, moved, strict=True)) / 50
        told = [] if fits else [f"values of images: mean difference {by_hand:.4f}; the tolerance is 0.15"]
        assert [line.partition(": ")[2] for line in differences(values=moved)] == told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"values": [np.nan] * 8 + HONEST[8:]}, "undefined in one run alone: share 0.1600; the tolerance is 0.15"),
        ({"kept": [True] * 50}, "images kept in one run alone: share 0.2000; the tolerance is 0.15"),
        ({"objective": {**FOUND, "success": 0.7}}, "success: published 0.9, computed 0.7; the tolerance is 0.15"),
        ({"objective": {**FOUND, "after": 0.4}}, "after: published 0.2, computed 0.4; the tolerance is 0.12"),
        ({"objective": {}}, "objective: published {'before': 0.8, 'after': 0.2, 'success': 0.9}, computed {}"),
        ({"better": "lower"}, "better: published 'higher', computed 'lower'"),
        ({"values": HONEST[25:] + HONEST[:25]}, "with those computed; at least 0.3 is required"),
        ({"values": [sum(HONEST) / 50] * 50}, "correlation 0.00 with those computed; at least 0.3 is required"),
        ({"unit": "s"}, "unit: published '', computed 's'"),
        ({"range": (0.0, 2.0)}, "range: published (0.0, 1.0), computed (0.0, 2.0)"),
    ],
)
def test_what_a_new_run_does_not_confirm(changes, words):
    assert any(line.endswith(words) for line in differences(**changes)), differences(**changes)


def test_a_new_flag_is_told_and_new_figures_are_not():
    then, now = run(HONEST, KEPT), run(HONEST, KEPT, flags=("attack too short: 0.40 instead of 0.46", "no map: 7%"))
    key = then.record.key
    assert find_new_flags([now], {key: then}) == {} == find_new_flags([then], {})
    then = Run(dataclasses.replace(then.record, flags=("attack too short: 0.42 instead of 0.46",)), then.values)
    (line,) = find_new_flags([then], {key: now})[key]
    assert line.endswith(": flag 'no map: 7%': computed, but not published")


def test_levels_are_compared_one_by_one():
    curve = np.linspace(0.1, 0.9, 5)[None].repeat(50, 0)
    then, now = run(curve), run(curve[:, ::-1])
    assert then.record.value == pytest.approx(now.record.value)
    line, *_ = compare_runs(PROTOCOL, [then], {then.record.key: now})[then.record.key]
    assert line.endswith("values of images: mean difference 0.4800; the tolerance is 0.15")


def test_other_images_and_missing_values_are_told():
    then = run(HONEST)
    others = Run(then.record, dataclasses.replace(then.values, images=then.values.images + 1))
    none = Run(then.record, None)
    for published, computed, words in (
        (others, then, "images or levels: others are published than computed"),
        (none, then, "values of images: none published"),
        (then, none, "values of images: none computed"),
    ):
        (line,) = compare_runs(PROTOCOL, [published], {then.record.key: computed})[then.record.key]
        assert line.endswith(words)


SHIFTED = {
    "all by half the tolerance": spread(0.3) + 0.03,
    "all by the tolerance": spread(0.3) + 0.06,
    "most by a tenth": spread(0.3) + 0.1 * (np.arange(COUNT) % 2),
}


@pytest.mark.parametrize("shift", SHIFTED)
def test_what_a_new_run_lets_pass_buys_no_rank(tmp_path, shift):
    rows = {**ROWS, "good": {**ROWS["ce"], "strong": SHIFTED[shift]}}
    assert ranks(build(tmp_path / "b", rows, TOLERANT))["good"] == "1"  # of the suite's own rows, differences count
    board = give(tmp_path / "b", "acme", of("good"))
    assert ranks(board) == {"ce": "1-2", "good": "1-2", "odd": "control"}
    assert (
        "A row that a submission reports is ahead only by more than a new run may differ by: 0.06 in overlap"
        in (render_board(board)["README.md"])
    )


def test_a_submission_that_is_ahead_by_more_is_ahead(tmp_path):
    build(tmp_path / "b", {**ROWS, "good": {**ROWS["ce"], "strong": spread(0.3) + 0.1}}, TOLERANT)
    assert ranks(give(tmp_path / "b", "acme", of("good"))) == {"good": "1", "ce": "2", "odd": "control"}
    build(tmp_path / "c", {**ROWS, "good": {**ROWS["ce"], "strong": spread(0.3) - 0.03}}, TOLERANT)
    # Nobody needs more than an interval beyond zero to be ahead of a submission.
    assert ranks(give(tmp_path / "c", "acme", of("good"))) == {"ce": "1", "good": "2", "odd": "control"}


def test_a_lower_ceiling_buys_no_rank(tmp_path):
    mine = {**ROWS["ce"], "strong": spread(0.3) + 0.03, "still": np.full(COUNT, 0.97)}
    board = build(tmp_path / "b", {**ROWS, "good": mine}, TOLERANT)
    assert ranks(board)["good"] == "1"
    assert ranks(give(tmp_path / "b", "acme", of("good")))["good"] == "1-2"


def test_the_margin_of_a_share_is_what_both_of_its_parts_may_be_off_by():
    def one(value):
        return Estimate((), value, None)

    assert find_margin(Standing(one(0.4), one(0.2), one(0.5)), 0.06, 0.07) == pytest.approx(0.4 - 0.14 / 0.57)
    assert find_margin(Standing(one(0.04), one(0.02), one(0.5)), 0.06, 0.07) == pytest.approx(0.04)


def add(place, name, axes, values, metric="overlap", objective=()):
    """A submission of one record about `ce` under an attack."""
    base = {"dataset": "shapes", "split": "test", "model": "lenet", "schedule": "quick", "seed": "0", "defense": "ce"}
    base |= {"explainer": "gradient", "surrogate": "gradient", "target": "predicted", "samples": "40", "ball": BALL}
    record, table = made(metric, base | axes, values, kept=np.full(COUNT, True), images=np.arange(COUNT))
    record = {**record, "objective": dict(objective)}
    (place / "records" / f"{name}.jsonl").write_text(json.dumps(record) + "\n")
    (place / "records" / f"{name}.values.parquet").write_bytes(table)
    describe(place, name)
    return read_board(place)


WHITE = {"before": 1.0, "after": 0.5, "success": 1.0}


@pytest.mark.parametrize(
    ("axes", "objective"),
    [
        ({"attack": "mine"}, {}),
        ({"attack": "mine"}, WHITE),  # which noise beats: a mark on the attack, not on the row
        ({"attack": "topk", "surrogate": "lrp"}, {}),
        ({"attack": "noise", "surrogate": "lrp"}, {}),
        ({"attack": "mine", "surrogate": "lrp"}, {}),
    ],
)
def test_an_attack_outside_the_protocol_neither_lowers_nor_marks_a_row(tmp_path, axes, objective):
    before = build(tmp_path / "b", toml=TOLERANT)
    level = 0.9 if objective else 0.001
    after = add(tmp_path / "b", "acme", axes, spread(level), objective=objective)
    assert ranks(after).items() >= {"good": "1", "odd": "control"}.items()
    then = row_of(before, "ce")
    (now,) = (row for row in after.rows if row.name == then.name)
    assert (str(now.rank), now.missing, now.standing) == ("2", "", then.standing)
    assert after.evidence(now) == before.evidence(then)
    assert not after.reported(now)
    doubts = [render_board(board)["index.html"].count('class="badge doubt"') for board in (before, after)]
    assert doubts[0] == doubts[1]
    mine = [r for r in csv.DictReader(io.StringIO(render_board(after)["table.csv"])) if r["attack"] == axes["attack"]]
    assert any(r["surrogate"] == axes.get("surrogate", "gradient") and r["value"] for r in mine)  # it is shown


def test_a_transfer_of_the_same_submission_marks_its_own_row(tmp_path):
    build(tmp_path / "b", toml=TOLERANT)
    give(tmp_path / "b", "acme", of("good"))
    place = tmp_path / "b" / "records"
    axes = json.loads((place / "acme.jsonl").read_text().splitlines()[0])["axes"]
    other, table = made(
        "overlap", {**axes, "attack": "mine", "surrogate": "lrp", "ball": BALL}, spread(0.001),
        kept=np.full(COUNT, True), images=np.arange(COUNT),
    )  # fmt: skip
    with (place / "acme.jsonl").open("a") as stream:
        stream.write(json.dumps(other) + "\n")
    tables = [pyarrow.parquet.read_table(io.BytesIO(table)), pyarrow.parquet.read_table(place / "acme.values.parquet")]
    pyarrow.parquet.write_table(pyarrow.concat_tables(tables), place / "acme.values.parquet")
    assert "unreliable: moved further by mine" in row_of(read_board(tmp_path / "b"), "good").missing


@pytest.mark.parametrize("left", [("strong",), ("still",), ("itself",), ("strong", "still", "itself"), ("topk",)])
def test_a_column_that_a_submission_adds_takes_nobodys_rank(tmp_path, left):
    own = {d: {n: v for n, v in columns.items() if n not in left or d == "good"} for d, columns in ROWS.items()}
    mine = of("good")
    alone = build(tmp_path / "alone", {d: columns for d, columns in own.items() if d != "good"}, TOLERANT)
    build(tmp_path / "b", own, TOLERANT)
    board = give(tmp_path / "b", "acme", mine)
    assert board.measured == alone.measured and board.ceiling == alone.ceiling
    ce = row_of(board, "ce")
    assert ce.rank and not ce.missing and ce.standing == row_of(alone, "ce").standing


def test_a_label_names_a_surrogate_that_is_not_the_explainer(tmp_path):
    build(tmp_path / "b")
    board = add(tmp_path / "b", "acme", {"attack": "topk", "explainer": "mine", "surrogate": "lrp"}, spread(0.9))
    (row,) = (row for row in board.rows if row.axes["explainer"] == "mine")
    assert label_row(board, row) == "ce · mine (attacked through lrp)"
    assert label_row(board, row_of(board, "good")) == "good · gradient"
    files = render_board(board)
    assert "mine (attacked through lrp) |" in files["README.md"] and "mine (attacked through lrp)" in files["table.tex"]
    assert "ce · mine (attacked through lrp)</a>" in files["index.html"]
    # Beside a row of the same explainer it is an axis of its own.
    board = add(tmp_path / "b", "acme", {"attack": "topk", "surrogate": "lrp"}, spread(0.9))
    (row,) = (row for row in board.rows if row.axes["surrogate"] == "lrp")
    assert label_row(board, row) == "ce · lrp"


def test_a_submission_is_corrected_by_its_owner_alone(tiny):
    submit(tiny, "again", meta={"supersedes": ["acme"]})
    assert validate(tiny) == []
    describe(tiny, "again", supersedes=["acme"], owner="ADA")  # as logins are
    assert validate(tiny) == []
    about = f"{tiny}/records/again.toml: supersedes has 'acme', which"
    for mine, theirs, words in (
        ("bob", "ada", "belongs to 'ada', but owner is 'bob'; open a dispute instead"),
        ("", "ada", "belongs to 'ada', but owner is ''; open a dispute instead"),
        ("bob", None, "names no owner, but owner is 'bob'; open a dispute instead"),
        ("", "", "names no owner, but owner is ''; open a dispute instead"),
    ):
        describe(tiny, "acme", owner=theirs)
        describe(tiny, "again", supersedes=["acme"], owner=mine)
        assert validate(tiny) == [f"{about} {words}"]


@pytest.mark.parametrize("owner", ["@ada", "ada lovelace", "-ada", "a" * 40, "ada\u202e", 1])
def test_an_owner_is_a_login(tiny, owner):
    describe(tiny, owner=owner)
    (line,) = validate(tiny)
    assert "acme.toml: owner " in line


def test_a_new_submission_belongs_to_the_author_of_the_change(tiny, made_board, bench_):
    shutil.copytree(made_board, tiny.with_name("before"))
    base = tiny.with_name("before")
    submit(tiny, "new", both={"defense": "mine"}, meta={"owner": "bob"})
    assert inspect(tiny, base=base, author="Bob").problems == [] == inspect(tiny, base=base).problems
    (line,) = inspect(tiny, base=base, author="eve").problems
    assert line.endswith("new.toml: owner is 'bob', but the change is by 'eve'; name its author as owner")
    words = ("leaderboard", "validate", str(tiny), "--base", str(base), "--author")
    assert bench_(*words, "bob")[0] == 0 and bench_(*words, "")[0] == 0
    code, _, err = bench_(*words, "eve")
    assert code == 1 and err == f"bench: {line}\n"
    for file in (base / "records").glob("suite.*"):
        file.unlink()
    found = inspect(tiny, base=base, author="ada").problems
    assert any("'suite' is the name of the suite's own records; publish under another --name" in one for one in found)


def test_rows_that_a_submission_reports_say_so_until_a_maintainer_has_run_them(tmp_path):
    place = tmp_path / "b"
    before = render_board(build(place))
    assert not any("self-reported" in text or "verified" in text for text in before.values())
    board = give(place, "acme", of("good"))
    keys = [record.key for record in board.reported(row_of(board, "good"))]
    told = "Self-reported: good (by acme; no maintainer has run it again)."
    files = render_board(board)
    assert told in files["README.md"] and told in files["index.html"]
    assert re.search(r"good +\(self-reported\) +& ", files["table.tex"])
    assert ">self-reported<" in files["index.html"] and "good (self-reported) is ahead" in files["README.md"]
    assert "good (self-reported) is ahead" in render_overview([board])["README.md"]
    rows = list(csv.DictReader(io.StringIO(files["table.csv"])))
    assert {(row["defense"], row["source"]) for row in rows} == {("ce", ""), ("good", "self-reported"), ("odd", "")}
    assert {row["source"] for row in json.loads(files["board.json"])["rows"]} == {"", "self-reported"}
    add_mark(place, "acme", keys[:2], COMMIT, "n-1")
    assert re.search(
        rf"Verified in part: good \(by acme; a maintainer ran 2 of {len(keys)} records again on \d{{4}}-\d\d-\d\d with "
        rf"commit c{{12}}, and compared {COMPARED}\)\.",
        render_board(read_board(place))["index.html"],
    )
    add_mark(place, "acme", keys[2:], COMMIT, "")
    files = render_board(read_board(place))
    assert f"a maintainer ran {len(keys)} of {len(keys)} records again" in files["README.md"]
    assert re.search(r">verified \d{4}-\d\d-\d\d<", files["index.html"]) and "self-reported" not in files["README.md"]
    assert [(mark.nonce, mark.keys) for mark in read_marks(place)] == [
        ("n-1", tuple(sorted(keys[:2]))), ("", tuple(sorted(keys[2:])))
    ]  # fmt: skip


def test_a_mark_is_of_the_records_that_were_run(tiny, made_board):
    keys = [json.loads(line)["key"] for line in (tiny / "records" / "acme.jsonl").read_text().splitlines()]
    add_mark(tiny, "acme", keys, COMMIT, "")
    assert validate(tiny) == []
    text = (tiny / VERIFIED).read_text()
    assert text.startswith("# Records that a maintainer has run again") and "\n[[mark]]\nsubmission = " in text
    (line,) = validate(tiny, base=made_board)
    assert line == f"{tiny}/{VERIFIED} has changed, but a submission only adds records and examples; restore it"
    submit(tiny, values=((1.0, 1.0, 1.0), (0.5, 1.0, 0.75)))
    told = "verified.toml: submission acme is not the one that was verified on "
    (line,) = validate(tiny)
    assert told in line and line.endswith("; verify it again, and remove the old mark")
    with pytest.raises(BadValue, match=told):
        read_board(tiny)


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("commit", "main", "mark[0].commit is 'main', must be a commit in 40 hexadecimal digits"),
        ("checksum", "x", "mark[0].checksum is 'x', must be a SHA-256 in hexadecimal digits"),
        ("date", "today", "mark[0].date is 'today', must be a date such as 2026-01-31"),
        ("keys", ["x"], "mark[0].keys[0] is 'x', must be a key in 16 hexadecimal digits"),
        ("nonce", "<b>", "mark[0].nonce is '<b>', must be letters, digits and _ . : - alone"),
        ("submission", "../x", "mark[0].submission is '../x', must be the name of a submission"),
        ("by", "me", "mark[0] has the unknown key 'by'"),
    ],
)
def test_a_mark_that_is_none_is_told(tiny, part, value, words):
    add_mark(tiny, "acme", [], COMMIT, "")
    lines = [line for line in (tiny / VERIFIED).read_text().splitlines() if not line.startswith(f"{part} ")]
    (tiny / VERIFIED).write_text("\n".join([*lines, f"{part} = {json.dumps(value)}\n"]))
    (line,) = validate(tiny)
    assert words in line
    with pytest.raises(BadValue, match=re.escape(words)):
        read_board(tiny)


def test_marks_that_cannot_be_read_are_told(tiny, bench_):
    (tiny / VERIFIED).mkdir()
    code, _, err = bench_("leaderboard", "build", str(tiny))
    assert (code, err) == (
        3,
        f"bench: {tiny / VERIFIED} cannot be read (it is a folder, not a file); check its permissions\n",
    )
    (line,) = validate(tiny)
    assert line == f"{tiny / VERIFIED} is a folder that no board has; remove it"


@pytest.mark.slow
def test_a_lot_is_drawn_after_the_records_and_a_mark_says_what_was_run(bench_, tmp_path, monkeypatch):
    here = provenance._describe_machine
    monkeypatch.setattr(provenance, "_describe_machine", lambda device: here(device) | {"commit": COMMIT})
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "board.toml").write_text(TINY)
    asked = ["--defense", "cosd", "--metric", "accuracy", "--metric", "topk_overlap", "--no-reference"]
    assert bench_("run", "--board", str(folder), *asked)[0] == 0
    assert bench_("leaderboard", "publish", str(folder), "--name", "acme", *asked)[0] == 0
    verify = ("leaderboard", "verify", str(folder), "--name", "acme")
    code, out, err = bench_(*verify, "--sample", "2")
    nonce = re.fullmatch(r"bench: the lot was drawn with --nonce ([0-9a-f]{32})\n", err)[1]
    assert (code, out) == (0, "2 published records compared, 0 differ\n")
    assert nonce not in bench_(*verify, "--sample", "2")[2]
    assert not (folder / VERIFIED).exists()
    code, out, err = bench_(*verify, "--sample", "2", "--nonce", nonce, "--mark")
    assert (code, out) == (0, f"2 published records compared, 0 differ\n{folder / VERIFIED}\n")
    (mark,) = read_marks(folder)
    assert (mark.submission, mark.commit, mark.nonce, len(mark.keys)) == ("acme", COMMIT, nonce, 2)
    code, _, err = bench_(*verify, "--sample", "1", "--nonce", "a\nb", "--mark")
    assert code == 2 and "verified.toml: nonce is 'a?b' and contains the hidden character U+000A; remove it" in err
    # A difference leaves no mark.
    (folder / VERIFIED).unlink()
    file = folder / "records" / "acme.jsonl"
    file.write_text(file.read_text().replace('"better": "higher"', '"better": "lower"', 1))
    assert bench_(*verify, "--mark")[:2] == (1, "3 published records compared, 1 differs\n")
    assert not (folder / VERIFIED).exists()
    code, _, err = bench_(*verify, "--nonce", "x")
    assert code == 2 and "--nonce x draws a sample; give --sample as well, or leave it out" in err
    code, _, err = bench_("leaderboard", "verify", str(folder), "--mark")
    assert code == 2 and "--mark is for the records of a submission; give its --name" in err


def test_a_mark_needs_the_commit_that_ran(bench_, tmp_path, monkeypatch):
    here = provenance._describe_machine
    monkeypatch.setattr(provenance, "_describe_machine", lambda device: here(device) | {"commit": ""})
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "board.toml").write_text(TINY)
    asked = ["--defense", "ce", "--metric", "accuracy"]
    assert bench_("run", "--board", str(folder), *asked)[0] == 0
    assert bench_("leaderboard", "publish", str(folder), "--name", "acme", *asked)[0] == 0
    code, _, err = bench_("leaderboard", "verify", str(folder), "--name", "acme", "--mark")
    assert code == 3 and err == (
        "bench: a mark names the commit that ran the records, but theirs is unknown; run bench from a checkout of the "
        "suite, with an empty --store\n"
    )
    assert not (folder / VERIFIED).exists()


def test_the_columns_of_a_board_without_the_suite_are_all_its_own(tmp_path):
    build(tmp_path / "b")
    for file in (tmp_path / "b" / "records").glob("suite.*"):
        file.rename(file.with_name(file.name.replace("suite", "lab")))
    board = read_board(tmp_path / "b")
    assert (
        ranks(board) == {"good": "1", "ce": "2", "odd": "control"}
        and Column("overlap", "strong", BALL) in board.decisive
    )
    assert not any(board.reported(row) for row in board.rows)
