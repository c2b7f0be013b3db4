"""A board's page: what it says, that it is inert, and how it works in a browser."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from bench.boards import board as boards
from bench.boards.board import read_board
from bench.boards.columns import WORST, Column
from bench.boards.record import Record, values_file
from bench.boards.render.figures import describe_pictures, find_against
from bench.boards.render.page import DOCS, SOURCE
from bench.boards.render.plots import Series, choose_ticks, draw_curves, draw_histogram, draw_points, spread_labels
from bench.boards.render.rows import describe_row
from bench.boards.render.site import render_board, render_overview
from bench.boards.render.wording import describe_leaders
from bench.boards.statistics import Rank

TOML = """
title = "Made up"
about = "For tests."
metrics = ["accuracy", "overlap", "insertion", "time"]
[axes]
dataset = ["shapes"]
split = ["test"]
model = ["lenet"]
schedule = ["quick"]
defense = ["ce", "good", "like_good", "odd"]
seed = [0]
explainer = ["gradient", "lrp"]
attack = ["sharp", "blunt"]
eps = ["2/255", "8/255"]
norm = ["linf"]
target = ["predicted"]
samples = [40]
[reference]
defense = "ce"
[fallback]
surrogate = "gradient"
[score]
metric = "overlap"
within = ["explainer"]
against = "accuracy"
cost = "time"
[control]
defense = ["odd"]
[paper]
source = "Somebody et al., 2023, Table 1"
url = "https://example.org/paper"
metrics = ["accuracy", "insertion"]
rows = [{defense = "ce", explainer = "gradient", values = [0.868, 0.355]}]
[[file]]
name = "weights/net.safetensors"
sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
bytes = 1
"""
COUNT = 40
LEVELS = {"ce": 0.3, "good": 0.6, "like_good": 0.602, "odd": 0.9}


def records():
    """(record, values (N, L), names) of a board of three defenses and a control, two attacks and two budgets."""
    draw = np.random.default_rng(0)
    place = {"dataset": "shapes", "split": "test", "model": "lenet", "schedule": "quick", "seed": "0"}
    hard = draw.normal(0, 0.1, COUNT)
    for defense, level in LEVELS.items():
        axes = {**place, "defense": defense}
        yield record("accuracy", axes | {"samples": "40"}, (draw.random((COUNT, 1)) < 0.8).astype(float))
        yield record("time", axes, np.array([[10 * level]]), unit="s", better="lower")
        for explainer in ("gradient", "lrp"):
            mine = axes | {"explainer": explainer, "target": "predicted", "samples": "40"}
            curve = np.linspace(0.1, level, 5) + np.zeros((COUNT, 1))
            yield record("insertion", mine, curve, names=["0%", "25%", "50%", "75%", "100%"])
            for attack in ("sharp", "blunt"):
                for eps in ("2/255", "8/255"):
                    if (defense, explainer, attack) == ("good", "lrp", "blunt"):
                        continue  # an incomplete row
                    loss = 0.1 * (eps == "8/255") + 0.04 * (attack == "sharp")
                    values = (level + hard + draw.normal(0, 0.03, COUNT) - loss)[:, None]
                    under = {"surrogate": explainer, "attack": attack, "ball": f"linf:{eps}"}
                    yield record("overlap", mine | under, values)


def record(metric, axes, values, names=("",), unit="", better="higher"):
    rows = values.mean(1)
    key = hashlib.sha256(repr((metric, sorted(axes.items()))).encode()).hexdigest()[:16]
    value = float(rows.mean())
    levels = {} if list(names) == [""] else {n: float(values[:, i].mean()) for i, n in enumerate(names)}
    made = Record(
        metric, axes, value, None, len(rows), None, 0, (value - 0.02, value + 0.02),
        levels, better, unit, f"what {metric} is", {}, (), "", f"bench run --metric {metric}", key,
        f'["record@2/metric/{metric}@1()", {{}}, {{"defense": "defense/{axes["defense"]}@1(weight=0.1)"}}]',
        provenance={
            "device": "CPU, 2 threads",
            "papers": {f"defense {axes['defense']}": "@article{somebody2023,\n  title = {A paper}\n}"},
            "weights": "a" * 64,
        },
    )  # fmt: skip
    return made, values, list(names)


@pytest.fixture
def folder(tmp_path):
    return written(tmp_path / "leaderboards" / "made-up", list(records()))


def written(place, found):
    (place / "records").mkdir(parents=True)
    (place / "board.toml").write_text(TOML)
    (place / "records" / "suite.jsonl").write_text("".join(r.line() + "\n" for r, _, _ in found))
    files = [values_file(r.key, np.arange(len(v)), names, v, None) for r, v, names in found]
    tables = [pyarrow.parquet.read_table(io.BytesIO(f)) for f in files]
    pyarrow.parquet.write_table(pyarrow.concat_tables(tables), place / "records" / "suite.values.parquet")
    return place


def test_a_paper_of_two_components_stands_once_beside_a_row(tmp_path):
    found = []
    for one, values, names in records():
        (text,) = one.provenance["papers"].values()
        papers = {f"{axis} {one.axes[axis]}": text for axis in ("defense", "explainer") if axis in one.axes}
        found.append((dataclasses.replace(one, provenance=one.provenance | {"papers": papers}), values, names))
    board = read_board(written(tmp_path / "twice", found))
    shown = describe_row(board, board.rows[0], board.columns)
    assert [paper["title"] for paper in shown["papers"]] == ["A paper"]
    (listed,) = (texts for term, _, texts in shown["details"] if term == "Papers")
    assert [text.partition(":")[0] for text in listed] == ["defense", "explainer"]


def test_rows_stand_in_groups_by_rank_with_shared_places_and_controls_last(folder):
    board = read_board(folder)
    shown = [(r.group, r.axes["defense"], str(r.rank or ""), r.control, r.missing) for r in board.rows]
    assert shown[:4] == [
        ("explainer gradient", "like_good", "1-2", False, ""),
        ("explainer gradient", "good", "1-2", False, ""),
        ("explainer gradient", "ce", "3", False, ""),
        ("explainer gradient", "odd", "", True, ""),
    ]
    assert shown[4:] == [
        ("explainer lrp", "like_good", "1", False, ""),
        ("explainer lrp", "ce", "2", False, ""),
        ("explainer lrp", "good", "", False, "no overlap under every attack of linf:8/255"),
        ("explainer lrp", "odd", "", True, ""),
    ]
    first, second = describe_leaders(board)
    assert re.fullmatch(
        r"explainer gradient: \w+ and \w+ share first place with 0\.\d+ to 0\.\d+ in overlap \(worst case\); "
        r"the reference, ce, has 0\.\d+", first
    )  # fmt: skip
    assert second.startswith("explainer lrp: like_good is ahead with 0.")
    assert re.search(r"; the reference, ce, has 0\.\d+, a difference of \+0\.\d+ \[\+0\.\d+, \+0\.\d+\]$", second)


def again(seed, change, keep=lambda axes: True):
    """The records of another seed, their values changed."""
    for made, values, names in records():
        if keep(made.axes):
            yield record(made.metric, made.axes | {"seed": seed}, change(values), names, made.unit, made.better)


def standings(board, explainer="gradient"):
    rows = [row for row in board.rows if row.axes["explainer"] == explainer]
    return {row.axes["defense"]: str(row.rank or row.missing or "control") for row in rows}


def test_further_seeds_of_some_rows_take_no_part_in_ranks(tmp_path):
    alone = read_board(written(tmp_path / "alone", list(records())))
    worse = again("1", lambda values: values - 0.4, lambda axes: axes["defense"] == "like_good")
    board = read_board(written(tmp_path / "more", [*records(), *worse]))
    assert standings(board) == standings(alone) and standings(board)["like_good"] == "1-2"
    row = next(row for row in board.rows if row.axes["defense"] == "like_good")
    assert row.estimates[board.score].value == pytest.approx(row.standing.value.value - 0.2)
    assert "over seed 0; the reference, ce, has 0." in describe_leaders(board)[0]
    assert " over seed" not in describe_leaders(alone)[0]
    assert "over seed 0, which the protocol requires of every row" in render_board(board)["README.md"]


def test_a_row_with_fewer_seeds_than_the_protocol_asks_for_has_no_rank_and_moves_none(tmp_path):
    others = again("1", lambda values: values - 0.01, lambda axes: axes["defense"] != "good")
    found = [*records(), *others]
    states = {}
    for name, kept in (("with", found), ("without", [f for f in found if f[0].axes["defense"] != "good"])):
        place = written(tmp_path / name, kept)
        (place / "board.toml").write_text(TOML.replace("seed = [0]", "seed = [0, 1]"))
        states[name] = standings(read_board(place))
    assert states["with"].pop("good") == "fewer seeds than its rivals: 1 of 2"
    assert states["with"] == states["without"] == {"like_good": "1", "ce": "2", "odd": "control"}
    shown = render_board(read_board(tmp_path / "with"))
    assert "fewer seeds than its rivals: 1 of 2" in shown["index.html"]


def test_the_difference_to_the_reference_is_that_of_the_printed_numbers(folder):
    number = r"([+-]?\d\.\d{3})"
    text = rf"like_good is ahead with {number} in overlap \(worst case\); the reference, ce, has {number}"
    whole = describe_leaders(read_board(folder))[1]
    mine, base, apart = re.search(rf"{text}, a difference of {number} \[", whole).groups()
    assert float(apart) == pytest.approx(float(mine) - float(base))


def test_the_worst_case_is_taken_image_by_image(folder):
    board = read_board(folder)
    row = next(r for r in board.rows if (r.axes["defense"], r.axes["explainer"]) == ("good", "gradient"))
    of = {(c.attack, c.ball): e for c, e in row.estimates.items() if c.metric == "overlap"}
    sharp, blunt, worst = (of[a, "linf:8/255"].images["0"] for a in ("sharp", "blunt", WORST))
    assert list(worst) == [min(pair) for pair in zip(sharp, blunt, strict=True)]
    assert of[WORST, "linf:8/255"].value == pytest.approx(np.minimum(sharp, blunt).mean())
    assert of[WORST, "linf:8/255"].value < of["sharp", "linf:8/255"].value
    assert of[WORST, "linf:AUC"].value == pytest.approx(
        (of[WORST, "linf:2/255"].value + of[WORST, "linf:8/255"].value) / 2
    )


def changed(change):
    """The made-up records after a change of axes, values, unit and direction."""
    for made, values, names in records():
        found = change(made.axes, made.metric, values)
        if found is not None:
            axes, values = found
            yield record(made.metric, axes, values, names, made.unit, made.better)


def test_rows_of_two_sets_are_no_rivals(tmp_path):
    found = [
        one
        for name, factor in (("shapes", 1.0), ("other", 0.5))
        for one in changed(lambda axes, _, values: ({**axes, "dataset": name}, factor * values))  # noqa: B023
    ]
    board = read_board(written(tmp_path / "made-up", found))
    assert [row.group for row in board.rows if str(row.rank) == "3"] == [
        "dataset shapes, explainer gradient",
        "dataset other, explainer gradient",
    ]
    first, *_ = describe_leaders(board)
    assert re.fullmatch(
        r"dataset shapes, explainer gradient: like_good and good share .*; the reference, ce, has .*", first
    )
    assert "Rows are ranked separately for each dataset and explainer." in render_board(board)["index.html"]


def test_a_column_without_entries_and_a_reference_without_a_score(tmp_path):
    blunt = ("good", "like_good")
    apart = changed(
        lambda axes, _, values: (
            None if axes.get("attack", "") == ("sharp" if axes["defense"] in blunt else "blunt") else (axes, values)
        )
    )
    board = read_board(written(tmp_path / "apart", list(apart)))
    assert board.score.attack == WORST and not any(row.rank for row in board.rows)
    assert all(row.missing for row in board.rows if not row.control)
    assert "no overlap" in render_board(board)["index.html"]
    found = [
        (dataclasses.replace(r, value=None, ci95=None, undefined=COUNT), values * np.nan, names)
        if (r.metric, r.axes["defense"]) == ("overlap", "ce")
        else (r, values, names)
        for r, values, names in records()
    ]
    board = read_board(written(tmp_path / "undefined", found))
    _, leader = describe_leaders(board)
    assert leader.startswith("explainer lrp: like_good is the only ranked row, with 0.") and "reference" not in leader
    assert set(render_board(board)) > {"index.html"}


def test_where_each_row_is_beaten_none_is_first(folder):
    board = read_board(folder)
    rows = [dataclasses.replace(row, rank=Rank(2, 3)) if row.rank else row for row in board.rows]
    first, _ = describe_leaders(dataclasses.replace(board, rows=rows))
    assert first.startswith("explainer gradient: no row is clearly ahead of all others")


def test_a_cell_is_the_same_in_every_file(folder):
    board = read_board(folder)
    files = render_board(board)
    row = next(r for r in board.rows if (r.axes["defense"], r.axes["explainer"]) == ("good", "gradient"))
    cell = board.cell(row, board.score)
    assert cell is board.cell(row, board.score) and cell.text == f"{cell.value:.3f}" and cell.difference.better
    parts = [cell.text, cell.interval]
    assert f" {' '.join(parts)} " in files["README.md"] and f" {' '.join(parts)} " in files["table.tex"]
    difference = f"{cell.difference.value:+.3f} ▲"
    assert f'>{cell.text}<small>{cell.interval}</small><small class="better">{difference}<' in files["index.html"]
    fields = next(
        line for line in csv.DictReader(io.StringIO(files["table.csv"]))
        if all(line[axis] == text for axis, text in {**row.axes, **dataclasses.asdict(board.score)}.items())
    )  # fmt: skip
    numbers = [float(fields[name]) for name in ("value", "difference")]
    assert numbers == pytest.approx([cell.value, cell.difference.value], rel=1e-5)
    time = board.cell(row, Column("time", "", ""))
    assert (time.text, time.value, time.difference, time.interval) == ("2.00 x", 2, None, "")
    incomplete = next(r for r in board.rows if r.missing)
    assert (board.cell(incomplete, board.score).text, board.cell(incomplete, board.score).value) == ("-", None)


def test_a_papers_figures_stand_beside_ours_under_the_same_attack(folder):
    text = TOML.replace('metrics = ["accuracy", "insertion"]', 'metrics = ["accuracy", "overlap"]')
    (folder / "board.toml").write_text(text)
    found = render_board(read_board(folder))
    row = next(r for r in read_board(folder).rows if r.axes["defense"] == "ce" and r.axes["explainer"] == "gradient")
    ours = row.estimates[Column("overlap", "sharp", "linf:8/255")]
    assert "overlap<br>sharp<br>linf:8/255<br>paper / here" in found["README.md"]
    assert f"0.355 / {ours.value:.3f}" in found["README.md"] and ">overlap, sharp, linf:8/255<" in found["index.html"]
    text = TOML.replace('metrics = ["accuracy", "insertion"]', 'metrics = ["other", "another"]')
    (folder / "board.toml").write_text(text)
    assert "Compared with the paper" not in "".join(render_board(read_board(folder)).values())


def test_what_a_metric_is_the_suite_says(folder):
    mine = [one for one in records() if one[0].axes["defense"] == "odd"]
    mine = [record(r.metric, {**r.axes, "defense": "zz"}, v, n, r.unit, r.better) for r, v, n in mine]
    mine = [(dataclasses.replace(r, help="strange"), v, n) for r, v, n in mine]
    for file in written(folder.parent / "other", mine).glob("records/*"):
        shutil.copy(file, folder / "records" / file.name.replace("suite", "zz"))
    found = render_board(read_board(folder))
    assert "zz" in found["table.csv"] and "trange" not in found["README.md"] + found["index.html"]


def test_a_worst_case_takes_the_commands_of_all_its_attacks(tmp_path):
    found = [(dataclasses.replace(r, command=f"bench run --key {r.key}"), v, n) for r, v, n in records()]
    board = read_board(written(tmp_path / "made-up", found))
    page = render_board(board)["index.html"]
    parts = board.rows[0].estimates[board.score].records
    assert len(parts) == 2 and "\n".join(r.command for r in parts) in page


def test_a_further_attack_takes_no_rank_away(tmp_path, folder):
    before = [(row.name, str(row.rank)) for row in read_board(folder).rows]
    found = list(records())
    mine = next(r for r, _, _ in found if r.metric == "overlap" and r.axes["attack"] == "sharp")
    further = record("overlap", mine.axes | {"attack": "own"}, np.full((COUNT, 1), 0.5))
    board = read_board(written(tmp_path / "further" / "made-up", [*found, further]))
    assert [(row.name, str(row.rank)) for row in board.rows] == before
    assert any(column.attack == "own" for column in board.columns)


def test_a_page_says_all_that_there_is_of_a_row(folder):
    page = render_board(read_board(folder))["index.html"]
    for text in (
        "bench run --board leaderboards/made-up --defense good --explainer gradient --no-reference",
        "bench run --metric overlap", "defense/good@1(weight=0.1)", "@article{somebody2023,", "a" * 64,
        "0.868 / ", "Somebody et al., 2023, Table 1", 'href="https://example.org/paper"', "2.00 x",
    ):  # fmt: skip
        assert text in page, text
    assert page.count("<svg") > 8 and "Overlap, worst case, by the budget of the attack." in page
    assert "Insertion, by level: what insertion is." in page


def test_below_a_picture_stand_the_scores_of_its_image(folder):
    board = read_board(folder)
    row = board.rows[0]
    shown = dataclasses.replace(board, protocol=dataclasses.replace(board.protocol, examples=[1]))
    values = {c: list(board.cell(row, c).estimate.images.values()) for c in (find_against(board), board.measured)}
    accuracy, score = (sum(seed[1] for seed in some) / len(some) for some in values.values())
    text = describe_pictures(shown, row)
    assert text.startswith("Test image 1, under ")
    assert f"This image alone: accuracy {accuracy:.2f}; " in text and text.endswith(f" {score:.2f}.")


def test_pages_of_two_machines_are_the_same_and_one_file_each(folder):
    first = render_board(read_board(folder))
    shutil.copytree(folder, folder.parent / "again" / "made-up")
    assert render_board(read_board(folder.parent / "again" / "made-up")) == first
    assert set(first) == {"README.md", "table.csv", "table.tex", "board.json", "index.html"}
    front = render_overview([read_board(folder)])["index.html"]
    assert '<a href="made-up/index.html">Made up</a>' in front and "share first place" in front


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.tags = [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.found += [(name, value) for name, value in attrs if name in ("href", "src", "style") or name[:2] == "on"]


def test_a_page_loads_nothing_and_has_no_inline_handlers(folder):
    page = render_board(read_board(folder))["index.html"]
    links = Links()
    links.feed(page)
    assert not {"iframe", "object", "embed", "link", "base", "form"} & links.tags
    for name, value in links.found:
        assert name == "href", (name, value)
        assert value.startswith("#") or value in (
            "../index.html", "table.csv", "board.json", "table.tex", "README.md", "https://example.org/paper", SOURCE,
            DOCS,
        ), value  # fmt: skip
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; img-src 'self'; style-src 'sha256-") and "unsafe" not in policy


def test_a_large_board_begins_with_its_first_rows_and_leaves_the_others_to_a_script(folder, monkeypatch):
    whole = render_board(read_board(folder))
    monkeypatch.setattr(boards, "SHOWN", 4)
    board = read_board(folder)
    files = render_board(board)
    assert [(r.group[10:], r.axes["defense"]) for r in board.leading] == [
        ("gradient", "like_good"), ("gradient", "good"), ("gradient", "ce"), ("lrp", "like_good"), ("lrp", "ce"),
    ]  # fmt: skip
    assert set(files) == {*whole, "rows.js"} and "rows.js" not in whole["index.html"]
    assert all(files[name] == whole[name] for name in ("table.csv", "board.json"))
    told = "5 of 8 rows are shown here; all are in table.csv and board.json."
    assert all(told in files[name] for name in ("README.md", "table.tex", "index.html"))
    texts, _, rows = json.loads(f"[{files['rows.js'].partition('showRows(')[2].rpartition(')')[0]}]")
    assert {row["name"] for row in rows} | {row.name for row in board.leading} == {row.name for row in board.rows}
    assert [board.rows[row["place"]].name for row in rows] == [row["name"] for row in rows]
    assert any("defense/odd@1(weight=0.1)" in text for text in texts) and "script-src 'self'" not in files["index.html"]
    assert re.search(r"script-src 'sha256-[^']+' 'self';", files["index.html"])


def test_ticks_are_round_and_enclose():
    assert choose_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1] and choose_ticks(0.31, 0.46) == [0.3, 0.35, 0.4, 0.45, 0.5]
    for low, high in ((0.5, 0.5), (0, 0), (-3, 2), (1e-5, 3e-5), (250, 1999)):
        found = choose_ticks(low, high)
        assert found[0] <= low and found[-1] >= high and 3 <= len(found) <= 8, (low, high, found)


def test_names_in_a_plot_keep_apart_and_inside():
    found = spread_labels([100.0, 100.0, 101.0, 20.0])
    gaps = np.diff(sorted(found))
    assert (gaps >= 11.4).all() and max(found) <= 210
    assert (np.diff(sorted(spread_labels([209.0, 209.0, 209.0]))) >= 11.4).all()


def test_the_front_holds_what_nothing_beats():
    made = [
        Series(n, [p], i) for i, (n, p) in enumerate({"a": (0, 3), "b": (1, 2), "c": (0.5, 1), "d": (2, 0)}.items())
    ]
    text = str(draw_points([*made, Series("control", [(9, 9)], None)], "x", "y", (True, True)))
    assert len(re.search('class="front" points="([^"]*)"', text)[1].split()) == 3
    text = str(draw_points(made, "x", "y", (False, True)))
    assert 'class="front"' not in text  # the first beats all


@pytest.mark.parametrize("more", [True, False])
def test_a_point_far_out_does_not_squeeze_the_others(more):
    xs = [0.9, 0.92, 0.94, 0.96, 0.98, 0.1]
    made = [Series(f"p{n}", [(x if more else 1 - x, 0.5 + x / 10)], n) for n, x in enumerate(xs)]

    def draw(series):
        text = str(draw_points(series, "accuracy", "y", (more, True)))
        return [float(x) for x in re.findall('<circle class="dot [^"]*" cx="([^"]*)"', text)], text

    places, text = draw(made)
    assert len(places) == 5 and max(places) - min(places) > 150
    far = made[-1].points[0][0]
    assert f"p5: {far:g} in accuracy, outside the picture" in text and f">p5 {far:g}</text>" in text
    named = [*made[:-1], dataclasses.replace(made[-1], named=True)]
    assert len(draw(named)[0]) == 6 and len(draw(made[3:])[0]) == 3  # nor one that is to be seen, nor one of three


def test_plots_take_names_for_text():
    name = '<script>"&'
    for plot in (draw_curves([Series(name, [(0, 1), (1, 2)], 0)], name, name), draw_histogram([0.1, 0.9], 0, 1)):
        assert "<script" not in plot
    pair = [Series(name, [(0, 1)], 0), Series("b", [(1, 0)], 12)]
    assert "<script" not in draw_points(pair, name, name, (True, True))
    assert "3 images" in draw_histogram([0.1, 0.11, 0.12, 0.9], 0, 1)


CHROMIUM = os.environ.get("BENCH_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser tests")
    if CHROMIUM is None:
        pytest.skip("no Chromium found: install chromium, or name one in BENCH_CHROMIUM")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    place = written(tmp_path_factory.mktemp("site") / "made-up", list(records()))
    for name, text in render_board(read_board(place)).items():
        (place / name).write_text(text)
    for name, text in render_overview([read_board(place)]).items():
        (place.parent / name).write_text(text)
    large = place.parent / "large"
    large.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boards, "SHOWN", 4)
        for name, text in render_board(read_board(place)).items():
            (large / name).write_text(text)
    return place.parent


@pytest.fixture
def opened(chromium, site):
    """Opens a page, and after the test tells of errors in its console and of requests to elsewhere."""
    contexts, wrong = [], []

    def open_(name="made-up/index.html", width=1280, **options):
        contexts.append(chromium.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda r: wrong.append(r.url) if not r.url.startswith(site.as_uri()) else None)
        file, mark, row = name.partition("#")
        page.goto((site / file).as_uri() + mark + row)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


def first_column(page, place=1):
    return page.locator(f"#rows tr[data-row]:visible > *:nth-child({place + 1})").all_inner_texts()


@pytest.mark.browser
def test_in_a_browser_it_sorts_within_groups_and_says_so(opened):
    page = opened()
    assert [t.split()[0] for t in first_column(page)][:4] == ["like_good", "good", "ce", "odd"]
    head = page.locator("th[data-name^=accuracy]")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    values = [float(t.split()[0]) for t in first_column(page, 3)]
    assert values[:4] == sorted(values[:4], reverse=True) and values[4:] == sorted(values[4:], reverse=True)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(t.split()[0]) for t in first_column(page, 3)][:4] == sorted(values[:4])


@pytest.mark.browser
def test_in_a_browser_what_has_no_value_stands_last_either_way(opened):
    page = opened()
    head = page.locator("th[data-name='overlap worst case, linf:8/255']")
    for order in ("descending", "ascending"):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order
        values = first_column(page, 2)[4:]
        assert values[-1] == "-" and "-" not in values[:-1]


@pytest.mark.browser
def test_in_a_browser_it_filters_and_chooses_columns(opened):
    page = opened()
    page.fill("#filter", "good lrp")
    assert [t.split()[0] for t in first_column(page)] == ["like_good", "good"]
    assert page.inner_text("#count") == "2 of 8 rows"
    page.fill("#filter", "")
    heads = page.locator("#rows thead th:visible").count()
    page.check("#all")
    assert page.locator("#rows thead th:visible").count() > heads
    page.uncheck("#all")
    page.locator("summary", has_text="Columns").click()
    page.locator("#columns label", has_text="accuracy").locator("input").uncheck()
    assert page.locator("#rows thead th:visible").count() == heads - 1
    assert len(page.locator("#rows tr[data-row]").first.locator("td:visible, th:visible").all()) == heads - 1


@pytest.mark.browser
def test_a_column_explains_itself_on_hover_and_on_focus(opened):
    page = opened()
    tip = page.locator("th[data-name^=accuracy] .tip")
    assert not tip.is_visible()
    page.hover("th[data-name^=accuracy]")
    assert tip.is_visible() and "What accuracy is; higher is better." in tip.inner_text()
    page.hover("h1")
    page.locator("th[data-name^=accuracy] button").focus()
    assert tip.is_visible()


def rows_of(page):
    return [" ".join(text.split()) for text in page.locator("#rows tr[data-row]:visible").all_inner_texts()]


def expect(locator):
    """Playwright's assertions, which wait without evaluating text in the page; its policy forbids that."""
    from playwright.sync_api import expect as expected

    return expected(locator)


@pytest.mark.browser
def test_rows_that_a_page_does_not_begin_with_are_drawn_as_those_that_it_does(opened):
    whole, page = opened(), opened("large/index.html")
    assert len(rows_of(page)) == 5 and page.inner_text("#count").startswith("5 of 8 rows are shown")
    page.click("#next")
    expect(page.locator("#rows tr[data-row]")).to_have_count(8)
    assert rows_of(page) == rows_of(whole) and not page.locator("#next").is_visible()
    for each in (whole, page):
        each.locator("th[data-name^=accuracy] button").click()
    assert rows_of(page) == rows_of(whole)
    details = [each.locator("details", has=each.locator("summary", has_text="odd")).first for each in (whole, page)]
    terms = [
        one.locator("dl").inner_text().split()
        for one in details
        if one.evaluate("(one) => { one.open = true; return 1 }")
    ]
    assert terms[0] == terms[1] and "--defense" in terms[0]


@pytest.mark.browser
def test_search_and_sorting_take_in_all_rows(opened):
    page = opened("large/index.html")
    page.fill("#filter", "odd lrp")
    expect(page.locator("#count")).to_have_text(re.compile("^1 of 8"))
    assert [text.split()[1] for text in rows_of(page)] == ["odd"]
    page = opened("large/index.html")
    page.locator("th[data-name^=accuracy] button").click()
    expect(page.locator("#rows tr[data-row]")).to_have_count(8)


@pytest.mark.browser
def test_a_link_to_a_row_that_the_page_does_not_begin_with_opens_it(opened, site):
    name = next(row.name for row in read_board(site / "made-up").rows if row.axes["defense"] == "odd")
    page = opened(f"large/index.html#row-{name}")
    page.wait_for_selector(f"#row-{name}[open]")


@pytest.mark.browser
def test_on_a_phone_the_names_of_rows_stay_in_sight(opened):
    page = opened(width=390)
    page.check("#all")
    moved = page.evaluate(
        "(() => { const t = document.querySelector('.tall'); t.scrollLeft = 900; return t.scrollLeft })()"
    )
    name, cell = (page.locator(f"#rows tr[data-row] {each}").first.bounding_box() for each in ("th.name", "td.score"))
    assert moved > 200 and 0 <= name["x"] <= 30 and name["x"] + name["width"] < 390 and cell["x"] < 0


@pytest.mark.browser
@pytest.mark.parametrize("boards", ["made up", pytest.param("published", marks=pytest.mark.slow)])
def test_no_two_texts_of_a_plot_overlap(opened, boards):
    page, published = opened(), (Path(__file__).parents[2] / "leaderboards").glob("*/index.html")
    for file in [None] if boards == "made up" else sorted(published):
        if file:
            page.set_content(re.sub("<script>.*?</script>", "", file.read_text(encoding="utf-8"), flags=re.DOTALL))
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
        found = page.evaluate("""() => [...document.querySelectorAll("svg")].flatMap((svg) => {
            const texts = [...svg.querySelectorAll("text")].map((t) => [t.textContent, t.getBoundingClientRect()]);
            return texts.flatMap(([a, x], i) => texts.slice(i + 1).filter(([, y]) =>
              x.left < y.right - 1 && y.left < x.right - 1 && x.top < y.bottom - 3 && y.top < x.bottom - 3
            ).map(([b]) => [a, b]));
        })""")
        assert found == [], file


def test_a_picture_says_which_points_are_at_its_edge_and_where_they_are(tmp_path):
    more = [f"more{place}" for place in range(4)]
    found = list(changed(
        lambda axes, metric, values: (axes, values * (0.02 if (metric, axes["defense"]) == ("accuracy", "odd") else 1))
    ))  # fmt: skip
    for name in more:
        found += changed(
            lambda axes, _, values: ({**axes, "defense": name}, values) if axes["defense"] == "good" else None  # noqa: B023
        )
    place = written(tmp_path / "far", found)
    (place / "board.toml").write_text(TOML.replace('"like_good", "odd"]', f'"like_good", "odd", {str(more)[1:]}'))
    page = render_board(read_board(place))["index.html"]
    assert re.search(r"Outside the picture, at the arrow: odd \(accuracy 0\.01\d\)\.", page)


def test_the_overview_begins_with_the_boards_that_rank_most_of_their_rows(folder):
    ranked = read_board(folder)
    none = dataclasses.replace(ranked, rows=[dataclasses.replace(row, rank=None) for row in ranked.rows])
    none = dataclasses.replace(none, protocol=dataclasses.replace(none.protocol, title="A board without ranks"))
    page = render_overview([none, ranked])["README.md"]
    assert page.index("## [Made up]") < page.index("## [A board without ranks]")


@pytest.mark.browser
def test_the_overview_finds_the_boards_of_a_method(opened):
    page = opened("index.html")
    page.fill("#methods", "LIKE_g")
    assert page.inner_text("#found") == "Made up: like_good" and page.locator(".card svg").is_visible()
    page.fill("#methods", "nobody")
    assert page.inner_text("#found") == "" and not page.locator(".card").first.is_visible()


@pytest.mark.browser
def test_without_javascript_everything_can_be_read(opened):
    page = opened(java_script_enabled=False)
    assert not page.locator("#filter").is_visible()
    assert len(first_column(page)) == 8 and page.locator("svg").first.is_visible()
    heads = page.locator("#rows thead th:visible").count()
    page.check("#all")
    assert page.locator("#rows thead th:visible").count() > heads
    page.locator("details[id^=row-] > summary").first.click()
    assert page.locator("details[open]").first.locator("text=defense: A paper").is_visible()
    page.locator("#papers ~ details > summary").first.click()
    assert page.locator("#papers ~ details pre", has_text="@article").first.is_visible()


@pytest.mark.browser
def test_a_link_to_a_row_opens_it(opened):
    page = opened()
    page.locator("#rows tr[data-row] th a").first.click()
    page.wait_for_selector("details[open]")
    assert page.locator("details[open]").count() == 1


EVERY = ["made-up/index.html", "large/index.html", "index.html"]


@pytest.mark.browser
@pytest.mark.parametrize(
    ("scheme", "width", "names"),
    [
        ("light", 1280, EVERY),
        ("dark", 390, ["made-up/index.html", "index.html"]),
        *(
            pytest.param(*each, EVERY, marks=pytest.mark.slow)
            for each in (("dark", 390), ("dark", 1280), ("light", 390))
        ),
    ],
)
def test_an_accessibility_checker_finds_nothing(opened, scheme, width, names):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    for name in names:
        page = opened(name, width, color_scheme=scheme, bypass_csp=True)
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
        found = axe.Axe().run(page).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"][:100]) for v in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_no_row_of_a_board_is_called_as_another(folder):
    names = [row.name for row in read_board(folder).rows]
    assert len(set(names)) == len(names) and all(re.fullmatch("[0-9a-f]{16}", name) for name in names)
    assert dataclasses.replace(read_board(folder).rows[0], group="x").name == names[0]
    assert Path(folder).name == "made-up"
