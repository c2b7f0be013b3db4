"""Boards: protocols, published records, generated tables, runs again."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import os
import random
import shutil
import types

import numpy as np
import pyarrow.parquet
import pytest
from scipy import stats
from scipy.integrate import trapezoid

import bench
from bench.boards.board import read_board
from bench.boards.cell import cost_ratio
from bench.boards.columns import Column, place_column
from bench.boards.protocol import parse_protocol, quick_protocol
from bench.boards.record import Record, values_file
from bench.boards.render.data import format_field
from bench.boards.render.escape import escape_formula, escape_markdown
from bench.boards.render.site import render_board
from bench.boards.reruns import Run, compare_runs
from bench.boards.statistics import area, difference, estimate, interval, worst
from bench.keys import hash_spec
from bench.publishing import verification

PROTOCOL = """
title = "A | tiny *board*"
about = "For tests."
metrics = ["accuracy", "topk_overlap", "train_time"]
[axes]
dataset = ["shapes"]
split = ["test"]
model = ["lenet"]
schedule = ["quick:epochs=1,batch=32,limit=64"]
defense = ["ce", "l2"]
seed = [0]
explainer = ["gradient"]
attack = ["topk:k=5,steps=2", "uniform_noise"]
eps = ["8/255"]
norm = ["linf"]
target = ["predicted"]
samples = [10]
[reference]
defense = "ce"
[fallback]
surrogate = "gradient"
[tolerance]
accuracy = 0.1
topk_overlap = 0.1
"""


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "leaderboards" / "tiny"
    place.mkdir(parents=True)
    (place / "board.toml").write_text(PROTOCOL)
    return place


def table(folder):
    return list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))


def test_a_board_is_run_published_built_checked_and_run_again(bench_, folder):
    code, out, err = bench_("leaderboard", "publish", str(folder))
    assert (
        code == 3
        and "lacks 8 of 8 records" in err
        and f"first run bench run --board {folder} with the same options" in err
    )
    assert not (folder / "records").exists()
    code, _, err = bench_("run", "--board", str(folder))
    assert (code, err) == (0, "")
    code, out, err = bench_("leaderboard", "publish", str(folder))
    assert code == 0 and out.splitlines()[0] == "8 records published as suite"
    assert err.endswith("suite.toml: authors, licence, selection, selected_on are empty; fill in what is true\n")
    page = (folder / "README.md").read_text()
    assert page.startswith("# A \\| tiny \\*board\\*\n") and "| ce " in page and "| l2 " in page
    assert {(r["defense"], r["metric"], r["attack"]) for r in table(folder)} >= {
        ("ce", "accuracy", ""),
        ("l2", "topk_overlap", "uniform_noise"),
    }
    lines = (folder / "records" / "suite.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == sorted(json.loads(line)["key"] for line in lines)
    assert bench_("leaderboard", "build", "--check", str(folder)) == (0, "", "")
    code, out, err = bench_("leaderboard", "verify", str(folder))
    assert (code, out, err) == (0, "8 published records compared, 0 differ\n", "")


@pytest.mark.slow
def test_what_is_published_has_pictures_weights_and_papers(bench_, folder, store):
    text = PROTOCOL.replace("[axes]", "example = [0, 3]\n[axes]", 1).replace('["ce", "l2"]', '["l2"]')
    (folder / "board.toml").write_text(text)
    assert bench_("run", "--board", str(folder), "--no-reference")[0] == 0
    code, out, _ = bench_("leaderboard", "publish", str(folder), "--no-reference")
    assert code == 0 and f"1 row drawn below {folder}/examples" in out
    (picture,) = (folder / "examples" / "suite").glob("*.png")
    assert f'src="examples/suite/{picture.name}"' in (folder / "index.html").read_text()
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and picture.stat().st_size < 100_000
    (weights,) = (store.root / "trained").glob("*/value.safetensors")
    for line in (folder / "records" / "suite.jsonl").read_text().splitlines():
        provenance = json.loads(line)["provenance"]
        assert provenance["weights"] == hashlib.sha256(weights.read_bytes()).hexdigest()
        assert "joo2023towards" in provenance["papers"]["defense l2"]
    before = picture.stat().st_mtime_ns
    code, out, _ = bench_("leaderboard", "publish", str(folder), "--no-reference")
    assert code == 0 and "drawn" not in out and picture.stat().st_mtime_ns == before
    stray = picture.with_name(f"{'0' * 16}.png")
    stray.write_bytes(picture.read_bytes())
    code, out, _ = bench_("leaderboard", "publish", str(folder), "--no-reference", "--replace")
    assert code == 0 and "1 row drawn" in out and picture.exists() and not stray.exists()
    code, _, err = bench_("leaderboard", "validate", str(folder))
    assert code == 1 and err.count("\n") == 1 and "authors, licence, selection, selected_on are empty" in err


@pytest.fixture
def published(folder):
    """A board with records that were never run: two defenses, two seeds."""
    place = folder / "records"
    place.mkdir()
    records, tables = [], []
    for d, defense in enumerate(("ce", "l2")):
        for seed in "01":
            for metric, attack in (("accuracy", None), ("topk_overlap", "uniform_noise"), ("train_time", None)):
                records.append(made(metric, defense, seed, attack, 0.5 + 0.1 * d + 0.02 * int(seed)))
                values = np.array([[records[-1].value - 0.1], [records[-1].value + 0.1]])
                tables.append(values_file(records[-1].key, np.array([3, 8]), [""], values, None))
    (place / "suite.jsonl").write_text("".join(r.line() + "\n" for r in records))
    joined = [pyarrow.parquet.read_table(io.BytesIO(t)) for t in tables]
    pyarrow.parquet.write_table(__import__("pyarrow").concat_tables(joined), place / "suite.values.parquet")
    return folder


def made(metric, defense, seed, attack, value):
    axes = {
        "dataset": "shapes",
        "split": "test",
        "model": "lenet",
        "schedule": "quick",
        "defense": defense,
        "seed": seed,
    }
    if attack:
        axes |= {
            "explainer": "gradient",
            "surrogate": "gradient",
            "attack": attack,
            "ball": "linf:8/255",
            "target": "predicted",
        }
    key = hashlib.sha256(repr((metric, defense, seed, attack)).encode()).hexdigest()[:16]
    return Record(
        metric=metric,
        axes=axes,
        value=value,
        value_kept=value if attack else None,
        n=2,
        kept=2 if attack else None,
        undefined=0,
        ci95=(value - 0.1, value + 0.1),
        levels={},
        better="lower" if metric == "train_time" else "higher",
        unit="s" if metric == "train_time" else "",
        help=f"what {metric} is",
        cost={},
        flags=(),
        paper="",
        command="bench run",
        key=key,
        spec=json.dumps([f"record@1/metric/{metric}@1()", {}, {}]),
        provenance={"device": "CPU, 2 threads"},
    )


def test_a_row_is_a_mean_over_seeds_and_a_time_a_ratio(published):
    board = read_board(published)
    assert [row.axes["defense"] for row in board.rows] == ["ce", "l2"]
    assert all("explainer" in row.axes for row in board.rows)
    assert [c.metric for c in board.columns] == ["accuracy", "topk_overlap", "train_time"]
    page = render_board(board)["README.md"]
    assert "0.510 [" in page and "0.610 [" in page and "| 1.00 x " in page and "| 1.20 x " in page
    assert "In brackets: 95% interval over seeds and images. Seeds: 0, 1." in page


def test_times_of_different_devices_are_not_divided(published):
    file = published / "records" / "suite.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if line["axes"]["defense"] == "l2":
            line["provenance"]["device"] = "a GPU"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = render_board(read_board(published))["README.md"]
    assert "1.20 x" not in page and "Computed on CPU, 2 threads; a GPU." in page


def test_times_on_two_devices_are_not_divided(published):
    file = published / "records" / "suite.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line["provenance"]["device"] = "a GPU" if line["axes"]["seed"] == "1" else "CPU"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "1.20 x" not in render_board(read_board(published))["README.md"]


def test_passes_on_two_devices_are_divided_and_seconds_are_not():
    def cost(unit, device):
        return estimate(
            [dataclasses.replace(made("m", "ce", "0", "", 2.0), unit=unit, provenance={"device": device})], {}
        )

    for unit, ratio in (("passes", 1.0), ("s", None), ("MiB", None)):
        assert cost_ratio(cost(unit, "a GPU"), cost(unit, "CPU")) == ratio
        assert cost_ratio(cost(unit, "CPU"), cost(unit, "CPU")) == 1.0


def test_a_worst_case_is_of_the_seeds_that_all_attacks_have():
    sharp = [dataclasses.replace(made("m", "ce", s, "sharp", 0.5), key=s) for s in "01"]
    blunt = [dataclasses.replace(made("m", "ce", "1", "blunt", 0.5), key="2")]
    found = worst([estimate(sharp, {"0": [0.1, 0.1], "1": [0.5, 0.7]}), estimate(blunt, {"2": [0.6, 0.6]})])
    assert found.value == pytest.approx(0.55) and {r.axes["seed"] for r in found.records} == {"1"}


def crossed(values):
    """The interval of a matrix (seeds, images) by sums of squares, the textbook's two-way layout."""
    seeds, images = values.shape
    grand = values.mean()
    square_seeds = images * ((values.mean(1) - grand) ** 2).sum() / (seeds - 1)
    square_images = seeds * ((values.mean(0) - grand) ** 2).sum() / (images - 1)
    rest = values - values.mean(1, keepdims=True) - values.mean(0, keepdims=True) + grand
    square_rest = (rest**2).sum() / ((seeds - 1) * (images - 1))
    parts = [square_seeds / (seeds * images), square_images / (seeds * images)]
    variance = max(sum(parts) - square_rest / (seeds * images), *parts)
    freedom = variance**2 / (parts[0] ** 2 / (seeds - 1) + parts[1] ** 2 / (images - 1))
    return stats.t.interval(0.95, max(seeds - 1, np.floor(freedom)), grand, variance**0.5)


def test_the_interval_over_seeds_and_images_is_that_of_crossed_effects():
    rng = np.random.default_rng(0)
    for between in (0.0, 0.1):
        values = 0.5 + between * rng.normal(size=(3, 1)) + rng.normal(0, 0.1, (1, 40)) + rng.normal(0, 0.05, (3, 40))
        records = [
            dataclasses.replace(made("m", "ce", str(s), None, float(v.mean())), key=str(s))
            for s, v in enumerate(values)
        ]
        images = {str(s): v.tolist() for s, v in enumerate(values)}
        found = estimate(records, images)
        assert found.value == pytest.approx(values.mean()) and found.ci95 == pytest.approx(crossed(values))
        assert found == estimate(records[::-1], images)
        images["1"][7] = None
        assert estimate(records, images).ci95 == pytest.approx(
            np.array(crossed(np.delete(values, 7, 1))) + values.mean() - np.delete(values, 7, 1).mean()
        )
    same = estimate(records, {str(s): [0.5] * 40 for s in range(3)})
    assert same.ci95 == (same.value, same.value)


def test_the_interval_of_one_seed_without_a_range_is_students():
    values = np.random.default_rng(1).normal(0.5, 0.1, 60)
    found = interval(float(values.mean()), [values.tolist()])
    assert found == pytest.approx(stats.ttest_1samp(values, 0).confidence_interval())
    assert interval(0.5, [[0.5]]) is None and interval(0.5, [[0.5, 0.5], [0.5]]) is None


@pytest.mark.parametrize("right", [1, 20, 38])
def test_the_interval_of_a_proportion_is_wilsons(right):
    share, values = right / 40, [1.0] * right + [0.0] * (40 - right)
    found = interval(share, [values], (0.0, 1.0))
    # Wilson (1927) with Student's t and the variance that divides by n - 1.
    square = stats.t.ppf(0.975, 39) ** 2 / 39
    half = (square * share * (1 - share) + square**2 / 4) ** 0.5
    assert found == pytest.approx([(share + square / 2 + sign * half) / (1 + square) for sign in (-1, 1)])
    scipys = stats.binomtest(right, 40).proportion_ci(0.95, "wilson")
    assert found == pytest.approx((scipys.low, scipys.high), abs=0.01)
    # The same on another scale, and mirrored.
    wider = interval(4 * share - 2, [[4 * v - 2 for v in values]], (-2.0, 2.0))
    assert wider == pytest.approx([4 * end - 2 for end in found])
    mirrored = interval(1 - share, [[1 - v for v in values]], (0.0, 1.0))
    assert mirrored == pytest.approx([1 - end for end in found[::-1]])


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, None), (None, 1.0)])
def test_no_interval_leaves_the_range(bounds):
    low, high = (-np.inf if bounds[0] is None else bounds[0], np.inf if bounds[1] is None else bounds[1])
    draw = np.random.default_rng(2)
    for level in (0.001, 0.02, 0.5, 0.98, 0.999):
        values = (draw.random((3, 40)) < level) * draw.random((3, 40))
        values = values if bounds[0] is not None else 1 - values
        found = interval(float(values.mean()), values.tolist(), bounds)
        assert low <= found[0] <= values.mean() <= found[1] <= high


def test_a_bound_on_one_side_is_one_that_is_far_away_on_the_other():
    values = np.random.default_rng(3).exponential(1, 50)
    found = interval(float(values.mean()), [values.tolist()], (0.0, None))
    assert found == pytest.approx(interval(float(values.mean()), [values.tolist()], (0.0, 1e9)), rel=1e-6)
    assert found[0] > 0 and found[1] - values.mean() > values.mean() - found[0]
    mirrored = interval(-float(values.mean()), [(-values).tolist()], (None, 0.0))
    assert mirrored == pytest.approx([-end for end in found[::-1]])


def test_a_mean_at_a_bound_counts_as_a_proportion_of_the_images():
    square = stats.t.ppf(0.975, 39) ** 2 / 40
    for seeds in (1, 3):
        assert interval(1.0, [[1.0] * 40] * seeds, (0.0, 1.0)) == pytest.approx((1 / (1 + square), 1.0))
        assert interval(0.0, [[0.0] * 40] * seeds, (0.0, 2.0)) == pytest.approx((0.0, 2 * square / (1 + square)))
    rounded = [1.0, 1 - 2e-16] * 20
    assert interval(sum(rounded) / 40, [rounded], (0.0, 1.0)) == pytest.approx((1 / (1 + square), 1.0))
    assert interval(0.5, [[0.5] * 40], (0.0, 1.0)) == (0.5, 0.5) and interval(0.0, [[0.0] * 40], (0.0, None)) == (0, 0)


def test_derived_columns_have_a_range_of_their_own():
    parts = curve([[1.0] * 4, [1.0, 1.0, 1.0, 0.9]])
    parts = [dataclasses.replace(part, range=(-1.0, 1.0)) for part in parts]
    assert area([parts[0], *parts], False).range == (-2.0, 2.0) and area([*parts], True).range == (-1.0, 1.0)
    assert worst(parts).range == (-1.0, 1.0) and worst(parts).ci95[1] < 1
    assert difference(parts[0], parts[1]).ci95[1] < 2


def curve(values, seed="0", **axes):
    """Entries of one row at four budgets, from values (eps, image)."""
    found = []
    for place, images in enumerate(values):
        record = made("m", "l2", seed, None, sum(v for v in images if v is not None) / 4)
        found.append(estimate([dataclasses.replace(record, key=f"{place}{seed}")], {f"{place}{seed}": images}))
    return found


def test_the_area_over_eps_has_unit_width_as_in_the_papers_tables():
    values = [[0.9, 0.8, 1.0, 0.7], [0.5, 0.6, 0.7, 0.2], [0.3, 0.3, 0.1, 0.1], [0.0, 0.2, 0.1, 0.1]]
    whole, normalised = area(curve(values), False), area(curve(values), True)
    expected = [trapezoid(images) for images in zip(*values, strict=True)]
    assert whole.images["0"] == pytest.approx(expected) and whole.value == pytest.approx(sum(expected) / 4)
    assert whole.value == pytest.approx(0.85 / 2 + 0.5 + 0.2 + 0.1 / 2)
    assert normalised.value == pytest.approx(whole.value / 3)
    assert normalised.value == pytest.approx(trapezoid([0.85, 0.5, 0.2, 0.1], dx=1 / 3))
    assert whole.ci95[0] < whole.value < whole.ci95[1]
    ones = area(curve([[1.0] * 4] * 4), False)
    assert ones.value == 3 and area(curve([[1.0] * 4] * 4), True).value == 1
    gap = area(curve([values[0], [None, 0.6, 0.7, 0.7], *values[2:]]), False)
    assert gap.images["0"][0] is None and gap.value is not None


def test_the_difference_to_the_reference_row_is_paired_by_image_and_seed():
    rng = random.Random(0)
    hard = [rng.random() for _ in range(60)]
    base = estimate([made("m", "ce", "0", None, 0.5)], {made("m", "ce", "0", None, 0.5).key: hard})
    mine = made("m", "l2", "0", None, 0.5)
    moved = [v + 0.02 + 0.01 * rng.random() for v in hard]
    found = difference(estimate([mine], {mine.key: moved}), base)
    assert found.value == pytest.approx(sum(b - a for a, b in zip(hard, moved, strict=True)) / 60)
    assert found.ci95[0] > 0.02 and found.ci95[1] < 0.03 and found.better is True
    lower = dataclasses.replace(mine, better="lower")
    assert difference(estimate([lower], {mine.key: moved}), base).better is False
    assert difference(estimate([mine], {mine.key: [v + rng.uniform(-0.1, 0.1) for v in hard]}), base).better is None
    half = [None if i % 2 else v for i, v in enumerate(moved)]
    assert difference(estimate([mine], {mine.key: half}), base).value == pytest.approx(
        sum(b - a for a, b in zip(hard[::2], moved[::2], strict=True)) / 30
    )
    other = made("m", "l2", "1", None, 0.5)
    assert difference(estimate([other], {other.key: moved}), base) is None
    assert difference(estimate([mine], {mine.key: moved[:9]}), base) is None


@pytest.mark.slow
def test_a_board_of_several_budgets_has_areas_and_differences(bench_, folder):
    text = PROTOCOL.replace('["8/255"]', '["2/255", "8/255"]').replace(', "uniform_noise"', "")
    (folder / "board.toml").write_text(text)
    assert bench_("run", "--board", str(folder))[0] == 0
    assert bench_("leaderboard", "publish", str(folder))[0] == 0
    page, rows = (folder / "README.md").read_text(), table(folder)
    assert "- AUC: area under the curve over all eps, by the trapezoidal rule with steps of width 1" in page
    assert "## Differences from the reference row" in page and "linf:AUC" in page
    at = {(r["defense"], r["ball"]): r for r in rows if r["metric"] == "topk_overlap"}
    for defense in ("ce", "l2"):
        two = [float(at[defense, f"linf:{eps}/255"]["value"]) for eps in (2, 8)]
        assert float(at[defense, "linf:AUC"]["value"]) == pytest.approx(sum(two) / 2, abs=1e-5)
        assert at[defense, "linf:2/255"]["value_kept"] and at[defense, "linf:AUC"]["seeds"] == "0"
        # Each budget keeps other images: there is no area of those.
        assert at[defense, "linf:AUC"]["value_kept"] == at[defense, "linf:AUC normalised"]["value_kept"] == ""
    for ball in ("linf:2/255", "linf:AUC"):
        values = [float(at[defense, ball]["value"]) for defense in ("ce", "l2")]
        assert float(at["l2", ball]["difference"]) == pytest.approx(values[1] - values[0], abs=1e-5)
        assert at["ce", ball]["difference"] == ""
    assert not any(r["difference"] for r in rows if r["metric"] == "train_time")


@pytest.mark.slow
def test_there_is_no_area_over_budgets_of_different_seeds(bench_, folder):
    text = PROTOCOL.replace('["8/255"]', '["2/255", "8/255"]').replace(', "uniform_noise"', "")
    text = text.replace("seed = [0]", "seed = [0, 1]").replace('["ce", "l2"]', '["ce"]')
    (folder / "board.toml").write_text(text)
    assert bench_("run", "--board", str(folder))[0] == 0
    assert bench_("leaderboard", "publish", str(folder))[0] == 0
    at = {r["ball"]: r for r in table(folder) if r["metric"] == "topk_overlap"}
    assert at["linf:AUC"]["seeds"] == "0 1"
    file = folder / "records" / "suite.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    gone = [line for line in lines if {"linf:2/255", "1"} <= set(json.loads(line)["axes"].values())]
    assert len(gone) == 1
    file.write_text("".join(line for line in lines if line not in gone))
    (row,) = read_board(folder).rows
    assert {c.ball for c in row.estimates if c.metric == "topk_overlap"} == {"linf:2/255", "linf:8/255"}


def test_a_mean_over_a_missing_seed_is_undefined():
    records = [made("m", "ce", "0", None, 0.5), dataclasses.replace(made("m", "ce", "1", None, 0.5), value=None)]
    assert estimate(records, {}).value is None


def test_building_needs_neither_torch_nor_plugins_and_is_the_same_everywhere(published):
    import subprocess
    import sys

    before = render_board(read_board(published))
    code = (
        "import sys; from bench.cli.commands import main\n"
        "try: main(['leaderboard', 'build', sys.argv[1]])\n"
        "finally: print('torch' in sys.modules, any(m.startswith('bench_') for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(published)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"
    assert {name: (published / name).read_text() for name in before} == before
    for file in sorted((published / "records").glob("suite*")):
        shutil.move(file, file.with_name(file.name.replace("suite", "other")))
    after = render_board(read_board(published))
    assert after.pop("index.html") == before.pop("index.html").replace("<dd>suite</dd>", "<dd>other</dd>")
    assert after == before


@pytest.mark.parametrize("name", ["README.md", "table.csv"])
def test_a_table_that_was_edited_by_hand_is_found(bench_, published, name):
    bench_("leaderboard", "build", str(published))
    file = published / name
    file.write_text(file.read_text().replace("0.6", "0.9", 1))
    code, out, err = bench_("leaderboard", "build", "--check", str(published))
    assert (code, out) == (1, "")
    assert err == (
        f"bench: {file} is not what the records give: they have changed since it was built, or it was edited by hand; "
        f"run bench leaderboard build {published}\n"
    )
    assert bench_("leaderboard", "build", str(published))[1] == f"{file}\n"
    file.unlink()
    assert bench_("leaderboard", "build", "--check", str(published))[0] == 1


@pytest.mark.parametrize("form", [str, lambda place: place.relative_to(place.parents[1])], ids=["absolute", "relative"])
def test_building_one_of_all_boards_rebuilds_the_page_that_leads_to_them(bench_, published, monkeypatch, form):
    monkeypatch.chdir(published.parents[1])
    shutil.copytree(published, published.with_name("other"))
    assert bench_("leaderboard", "build")[0] == 0
    toml = published / "board.toml"
    toml.write_text(toml.read_text().replace("A | tiny *board*", "Another title"))
    code, _, err = bench_("leaderboard", "build", "--check")
    assert code == 1 and "leaderboards/index.html is not what the records give: they have changed since" in err
    assert err.splitlines()[-1].endswith("run bench leaderboard build")
    code, out, _ = bench_("leaderboard", "build", str(form(published)))
    assert code == 0 and {"leaderboards/README.md", "leaderboards/index.html"} <= set(out.splitlines())
    text = (published.parent / "README.md").read_text()
    assert "Another title" in text and "A \\| tiny" in text
    assert bench_("leaderboard", "build", "--check") == (0, "", "")
    elsewhere = shutil.copytree(published, published.parents[1] / "elsewhere" / "tiny")
    assert bench_("leaderboard", "build", str(elsewhere)) == (0, "", "")
    assert not (elsewhere.parent / "README.md").exists()


def test_a_re_run_that_differs_is_told():
    protocol = parse_protocol(PROTOCOL.encode(), "x")
    then = [
        made("accuracy", "ce", "0", None, 0.5),
        made("train_time", "ce", "0", None, 0.5),
        made("cosine", "ce", "0", None, 0.5),
    ]
    now = {r.key: dataclasses.replace(r, value=0.65) for r in then}

    def compare(old, new):
        runs = {key: Run(record, None) for key, record in new.items()}
        found = compare_runs(protocol, [Run(record, None) for record in old], runs)
        assert list(found) == [record.key for record in old]
        return [line for lines in found.values() for line in lines]

    assert compare(then, now) == [
        "accuracy of defense ce, seed 0: published 0.5000, computed 0.6500; the tolerance is 0.1",
        "cosine of defense ce, seed 0: published 0.5000, computed 0.6500; the tolerance is 0",
    ]
    assert compare(then[:1], {k: dataclasses.replace(r, value=0.55) for k, r in now.items()}) == []
    undefined = {k: dataclasses.replace(r, value=None) for k, r in now.items()}
    assert compare(then[:1], undefined)[0].endswith("published 0.5, computed None")
    assert "no longer part of the board's protocol; publish the board again" in compare(then[:1], {})[0]


@pytest.mark.slow
def test_a_publication_that_is_killed_blocks_no_other(bench_, folder, monkeypatch):
    text = PROTOCOL.replace("[axes]", "example = [0]\n[axes]", 1).replace('["ce", "l2"]', '["ce"]')
    (folder / "board.toml").write_text(text.replace('"topk:k=5,steps=2", ', ""))
    publish = ("leaderboard", "publish", str(folder))
    assert bench_("run", "--board", str(folder))[0] == 0
    rename, done = os.replace, []

    def killed(step):
        def replace(*paths):
            if len(done) == step:
                raise KeyboardInterrupt
            done.append(paths)
            rename(*paths)

        return replace

    for step in range(4):  # values, metadata, records, a picture
        for place in ("records", "examples"):
            shutil.rmtree(folder / place, ignore_errors=True)
        done.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killed(step))
            assert bench_(*publish)[0] == 130
        assert len(done) == step and list(folder.rglob("*.unfinished"))
        assert bench_("leaderboard", "build", str(folder))[0] == 0
        code, out, err = bench_(*publish)
        assert (code, out.splitlines()[0]) == (0, "3 records published as suite")
        assert err.count("\n") == 1 and "suite.toml: authors, licence" in err
        assert not list(folder.rglob("*.unfinished"))


def test_a_stranger_adds_a_row_of_its_own(bench_, folder):
    asked = ["--board", str(folder), "--defense", "cosd", "--metric", "accuracy"]
    assert bench_("run", *asked)[0] == 0
    code, out, _ = bench_("leaderboard", "publish", str(folder), *asked[2:], "--no-reference", "--name", "acme")
    assert code == 0 and out.startswith("1 record published as acme")
    assert [r["defense"] for r in table(folder)] == ["cosd"]
    code, _, err = bench_("leaderboard", "publish", str(folder), *asked[2:], "--name", "../acme")
    assert code == 2 and "submission '../acme': use lower-case letters, digits and _ . - only" in err


@pytest.mark.slow
def test_what_another_submission_has_is_left_out_unless_it_is_corrected(bench_, folder, tmp_path):
    asked = ["--metric", "accuracy", "--metric", "topk_overlap"]
    mine = [*asked, "--explainer", "edge_map"]
    publish = ("leaderboard", "publish", str(folder))
    for options in (asked, mine):
        assert bench_("run", "--board", str(folder), *options)[0] == 0
    assert bench_(*publish, *asked)[1].startswith("6 records published as suite\n/")
    code, out, err = bench_(*publish, *mine, "--name", "acme")
    assert code == 0 and err.count("\n") == 1 and "acme.toml: authors, licence, selection, selected_on are empty" in err
    assert out.startswith("4 records published as acme\n2 records left out, since suite has published them\n")
    lines = (folder / "records" / "acme.jsonl").read_text().splitlines()
    assert {json.loads(line)["metric"] for line in lines} == {"topk_overlap"}
    assert bench_(*publish, *mine, "--name", "acme")[1] == out[: out.index("/")]
    code, out, _ = bench_(*publish, *mine, "--name", "again")
    assert code == 0 and out == "6 records published as again\n"
    (folder / "records" / "again.toml").write_text('supersedes = ["acme"]\n')
    code, out, _ = bench_(*publish, *mine, "--name", "again", "--replace")
    assert code == 0 and out.startswith("4 records published as again\n2 records left out, since suite has")


def fill_in(file):
    text = file.read_text().replace("authors = []", 'authors = ["A"]')
    for key in ("licence", "selection", "selected_on"):
        text = text.replace(f'{key} = ""', f'{key} = "none"')
    file.write_text(text)


@pytest.mark.slow
def test_a_submission_has_metadata_stays_and_is_verified_by_a_sample(bench_, folder, tmp_path):
    metrics = ["--metric", "accuracy", "--metric", "topk_overlap"]
    assert bench_("run", "--board", str(folder), *metrics)[0] == 0
    assert bench_("leaderboard", "publish", str(folder), *metrics)[0] == 0
    fill_in(folder / "records" / "suite.toml")
    asked = ["--defense", "cosd", *metrics, "--no-reference"]
    assert bench_("run", "--board", str(folder), *asked)[0] == 0
    publish = ("leaderboard", "publish", str(folder), "--name", "acme")
    assert bench_(*publish, *asked)[0] == 0
    code, _, err = bench_("leaderboard", "validate", str(folder))
    assert code == 1 and err.count("\n") == 1
    assert "acme.toml: authors, licence, selection, selected_on are empty; fill in what is true" in err
    meta = tmp_path / "meta.toml"
    text = (folder / "records" / "acme.toml").read_text()
    meta.write_text(text.replace('= ""', '= "none"').replace("authors = []", 'authors = ["A"]'))
    code, _, err = bench_(*publish, *asked, "--meta", str(meta))
    assert code == 2 and "meta.toml: paper is 'none', must be empty or begin with https://" in err
    meta.write_text(meta.read_text().replace('paper = "none"', 'paper = ""').replace('code = "none"', 'code = ""'))
    before = (folder / "records" / "acme.values.parquet").read_bytes()
    assert bench_(*publish, *asked, "--meta", str(meta))[0] == 0
    assert (folder / "records" / "acme.toml").read_bytes() == meta.read_bytes()
    assert (folder / "records" / "acme.values.parquet").read_bytes() == before
    assert bench_("leaderboard", "validate", str(folder)) == (0, "2 submissions, 9 records valid\n", "")
    fewer = [*asked[:4], "--no-reference"]
    code, out, err = bench_(*publish, *fewer)
    assert (code, out) == (
        2,
        "",
    ) and "has other records, and published results do not change: add to them with --add, or publish" in err
    verify = ("leaderboard", "verify", str(folder))
    assert bench_(*verify, "--name", "acme")[:2] == (0, "3 published records compared, 0 differ\n")
    assert bench_(*verify, "--name", "acme", "--sample", "2", "--nonce", "a number")[1].startswith(
        "2 published records"
    )
    assert bench_(*verify, *asked, "--sample", "1")[:2] == (0, "1 published record compared, 0 differ\n")
    code, _, err = bench_(*verify, "--name", "nobody")
    assert code == 2 and "no submission called 'nobody'" in err
    code, _, err = bench_(*verify, "--name", "acme", "--defense", "ce")
    assert code == 2 and "--name acme already says what to run; leave out --name or the options of a run" in err
    file = folder / "records" / "acme.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**line, "value": 0.9 - line["value"]}) + "\n" for line in lines))
    assert bench_(*verify, "--name", "acme")[0] == 1
    assert bench_(*publish, *fewer, "--replace")[0] == 0 and len(file.read_text().splitlines()) == 1


def test_rows_are_added_to_what_no_store_has_any_more(bench_, folder, tmp_path, monkeypatch):
    asked = ["--metric", "accuracy"]
    publish = ("leaderboard", "publish", str(folder), *asked)
    place = folder / "records"

    def read_files():
        return [(place / f"suite{suffix}").read_bytes() for suffix in (".jsonl", ".values.parquet", ".toml")]

    assert bench_("run", "--board", str(folder), *asked)[0] == 0
    assert bench_(*publish)[1].startswith("2 records published as suite\n")
    whole = read_files()
    for file in place.iterdir():
        file.unlink()
    assert bench_(*publish, "--defense", "ce", "--add")[1].startswith("1 record published as suite\n")
    monkeypatch.setenv("BENCH_STORE", str(tmp_path / "later"))
    assert bench_("run", "--board", str(folder), *asked, "--defense", "l2", "--no-reference")[0] == 0
    assert bench_(*publish, "--defense", "l2")[0] == 3  # this store lacks the reference row
    code, out, _ = bench_(*publish, "--defense", "l2", "--add")
    assert code == 0 and out.startswith("1 record published as suite\n")
    keys = [json.loads(line)["key"] for line in whole[0].splitlines()]
    assert [json.loads(line)["key"] for line in read_files()[0].splitlines()] == keys
    assert read_files()[1:] == whole[1:]
    added = read_files()
    assert bench_(*publish, "--defense", "l2", "--add")[1].startswith("0 records published") and read_files() == added
    code, _, err = bench_(*publish, "--add", "--replace")
    assert code == 2 and "--add keeps the records of this name, and --replace drops them; give one of the two" in err
    (place / "suite.values.parquet").write_bytes(b"x")
    code, _, err = bench_(*publish, "--defense", "cosd", "--add")
    assert code == 2 and "suite in" in err
    assert "cannot be added to, since its files are damaged; publish it again with --replace" in err


def test_a_record_that_cannot_be_run_here_is_told(bench_, folder):
    asked = ["--defense", "cosd", "--metric", "accuracy", "--no-reference"]
    assert bench_("run", "--board", str(folder), *asked)[0] == 0
    assert bench_("leaderboard", "publish", str(folder), "--name", "acme", *asked)[0] == 0
    file = folder / "records" / "acme.jsonl"
    text = file.read_text().replace("defense/cosd@", "defense/cusd@").replace('"cosd"', '"cusd"')
    record = json.loads(text.replace("--defense cosd", "--defense cusd"))
    record["provenance"]["plugins"]["defense cusd"] = "acme-cusd 2.1"
    file.write_text(json.dumps({**record, "key": hash_spec(record["spec"])}) + "\n")
    code, out, err = bench_("leaderboard", "verify", str(folder), "--name", "acme")
    assert (code, out) == (1, "0 published records compared, 1 differs\n")
    absent = "were made with acme-cusd 2.1, which is not installed\n"
    assert err.startswith("bench: accuracy of cusd cannot be run here: no defense called 'cusd'")
    assert err.endswith(f"; its records {absent}") and err.count("\n") == 1
    (folder / "board.toml").write_text(PROTOCOL.replace('["ce", "l2"]', '["ce", "cusd"]'))
    code, _, err = bench_("leaderboard", "verify", str(folder))
    assert code == 2 and err.startswith("bench: no defense called 'cusd'") and err.count("\n") == 1
    assert err.endswith(f"; records of {folder} {absent}")


def test_a_departing_row_joins(bench_, folder):
    (folder / "board.toml").write_text(PROTOCOL + '[[row]]\ndefense = "cosd"\nschedule = "quick:epochs=1,limit=32"\n')
    code, out, _ = bench_("plan", "--board", str(folder), "--metric", "accuracy")
    assert code == 0 and out.startswith("0 cells done, 3 to do")
    code, out, _ = bench_("plan", "--board", str(folder), "--metric", "accuracy", "--defense", "ce")
    assert out.startswith("0 cells done, 1 to do")


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("[tolerance]", "[tolerances]", 2, "board.toml has the unknown key 'tolerances'; did you mean 'tolerance'?"),
        (
            'defense = ["ce", "l2"]',
            'defence = ["ce"]',
            2,
            "board.toml: axes has the unknown key 'defence'; did you mean 'defense'?",
        ),
        ('["ce", "l2"]', '["ce", "l3"]', 2, "no defense called 'l3'"),
        ('["gradient"]\nattack', '["gradent"]\nattack', 2, "no explainer called 'gradent'; did you mean 'gradient' or"),
        ("seed = [0]\n", "", 2, "board.toml: axes has no seed"),
        ("seed = [0]", "seed = []", 2, "board.toml: axes.seed is [], must be a list of texts or whole numbers"),
        ("seed = [0]", "seed = [true]", 2, "board.toml: axes.seed is [True], must be a list of texts or whole numbers"),
        ("accuracy = 0.1", "accuracy = -1", 2, "board.toml: tolerance.accuracy is -1, must be a number from 0 to"),
        (
            "[reference]\n",
            "[reference]\nmodl = 1\n",
            2,
            "board.toml: reference has the unknown key 'modl'; did you mean 'model'?",
        ),
        (
            "[tolerance]",
            '[score]\nmetric = "topk_overlp"\n[tolerance]',
            2,
            "board.toml: score.metric is 'topk_overlp', must be one of accuracy, topk_overlap, train_time",
        ),
        (
            "[tolerance]",
            '[score]\nmetric = "accuracy"\ncost = "time"\n[tolerance]',
            2,
            "board.toml: score.cost is 'time', must be one of accuracy, topk_overlap, train_time",
        ),
        ("[fallback]\n", "[fall", 2, "board.toml is not TOML ("),
        ('[fallback]\nsurrogate = "gradient"', "", 2, "board.toml has no fallback; add what is missing"),
        ('"accuracy", "topk', '"acuracy", "topk', 2, "no metric called 'acuracy'; did you mean 'accuracy' or"),
    ],
)
def test_a_board_that_is_wrong_is_named(bench_, folder, old, new, code, message):
    assert old in PROTOCOL
    (folder / "board.toml").write_text(PROTOCOL.replace(old, new))
    found, out, err = bench_("run", "--board", str(folder))
    assert (found, out) == (code, "") and err.count("\n") == 1 and message in err


def test_boards_and_records_that_are_not_there(bench_, tmp_path, monkeypatch, published):
    code, _, err = bench_("run", "--board", str(tmp_path / "nothing"))
    assert code == 3 and "board.toml cannot be read (No such file or directory); name a folder that has one" in err
    monkeypatch.chdir(tmp_path / "leaderboards" / "tiny")
    code, _, err = bench_("leaderboard", "build")
    assert code == 2 and "no board in the folder leaderboards (none has a board.toml); name the folder" in err
    (published / "records" / "suite.values.parquet").write_bytes(b"none")
    code, _, err = bench_("leaderboard", "build", str(published))
    assert code == 3 and "suite.values.parquet cannot be read" in err and "publish suite again" in err
    (published / "records" / "suite.values.parquet").unlink()
    code, _, err = bench_("leaderboard", "build", str(published))
    assert code == 3 and "suite.values.parquet is not there; publish suite again" in err
    (published / "records" / "suite.jsonl").write_text("{}\n")
    code, _, err = bench_("leaderboard", "build", str(published))
    assert code == 2 and "suite.jsonl, line 1: no record of this version; publish it again" in err


def test_records_of_two_versions_of_one_cell_are_refused(bench_, published):
    file = published / "records" / "suite.jsonl"
    line = json.loads(file.read_text().splitlines()[0])
    (published / "records" / "late.jsonl").write_text(json.dumps({**line, "key": "0" * 16}) + "\n")
    shutil.copy(published / "records" / "suite.values.parquet", published / "records" / "late.values.parquet")
    code, _, err = bench_("leaderboard", "build", str(published))
    assert code == 2 and "from other versions or other data; publish the older one again" in err


def test_of_two_records_of_one_key_the_suites_counts(published):
    before = render_board(read_board(published))
    lines = [json.loads(line) for line in (published / "records" / "suite.jsonl").read_text().splitlines()]
    text = "".join(json.dumps({**line, "value": 0.111}) + "\n" for line in lines)
    (published / "records" / "a.jsonl").write_text(text)
    shutil.copy(published / "records" / "suite.values.parquet", published / "records" / "a.values.parquet")
    assert render_board(read_board(published)) == before


def test_a_row_with_fewer_seeds_says_so(published):
    file = published / "records" / "suite.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    kept = [line for line in lines if (line["axes"]["defense"], line["axes"]["seed"]) != ("l2", "1")]
    file.write_text("".join(json.dumps(line) + "\n" for line in kept))
    page = render_board(read_board(published))["README.md"]
    assert "(1 of 2 seeds)" in page and page.count("(1 of 2 seeds)") == 2


def test_garbage_among_the_records_stops_the_build_and_not_the_run(bench_, folder):
    (folder / "records").mkdir()
    for garbage in (b"garbage\n", b"\xff\n"):
        (folder / "records" / "suite.jsonl").write_bytes(garbage)
        code, _, err = bench_("leaderboard", "build", str(folder))
        assert code == 2 and "suite.jsonl, line 1: no record of this version; publish it again" in err
        code, out, err = bench_("run", "--board", str(folder), "--metric", "accuracy")
        assert code == 0 and "accuracy" in out and "no record of this version" in err
    asked = ("leaderboard", "publish", str(folder), "--metric", "accuracy")
    code, out, err = bench_(*asked)
    assert (code, out) == (2, "") and "submission suite of board" in err and "published results do not change" in err
    assert bench_(*asked, "--replace")[0] == 0
    (folder / "board.toml").write_bytes(b"\xff")
    code, _, err = bench_("run", "--board", str(folder))
    assert code == 2 and "board.toml is not TOML (" in err


@pytest.mark.parametrize("field", [{"value": "x"}, {"ci95": [1, 2, 3]}, {"n": "x"}, {"flags": [1]}, {"metric": None}])
def test_a_record_with_a_field_of_another_type_is_none(published, field):
    line = json.loads((published / "records" / "suite.jsonl").read_text().splitlines()[0])
    with pytest.raises((ValueError, TypeError)):
        Record.parse(json.dumps({**line, **field}))


def test_a_board_is_the_same_from_inside_its_folder(bench_, published, monkeypatch):
    bench_("leaderboard", "build", str(published))
    monkeypatch.chdir(published)
    assert bench_("leaderboard", "build", "--check", ".") == (0, "", "")


def test_hostile_names_stay_text(published):
    file = published / "records" / "suite.jsonl"
    text = file.read_text().replace('"l2"', json.dumps("=1|`<script>*\\"))
    file.write_text(text)
    found = render_board(read_board(published))
    row = next(line for line in found["README.md"].splitlines() if "script" in line)
    assert row.startswith("| =1\\|\\`\\<script\\>\\*\\\\ |")
    assert "'=1|`<script>*\\," in found["table.csv"]
    assert escape_formula("@x") == "'@x" and escape_markdown("a\nb") == "a b"
    assert escape_markdown("&#x202e; ~a $b __c__ d_e") == r"\&\#x202e; \~a \$b \_\_c\_\_ d_e"
    file.write_text(text.replace("topk_overlap", json.dumps("o\\<br>p_q")[1:-1]))
    assert r"o\textbackslash{}\ensuremath{<}br\ensuremath{>}p\_q" in render_board(read_board(published))["table.tex"]


def test_counts_are_whole_numbers():
    assert (format_field(2_000_001), format_field(0.1234567), format_field(None)) == ("2000001", "0.123457", "")


def test_no_path_of_this_machine_is_published(bench_, folder, tmp_path):
    import safetensors.torch

    network = bench.component("model", "lenet").build((3, 32, 32), 10)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "own.safetensors")
    asked = ["--defense", f"weights:path={tmp_path / 'own.safetensors'}", "--no-reference", "--metric", "accuracy"]
    assert bench_("run", "--board", str(folder), *asked)[0] == 0
    assert bench_("leaderboard", "publish", str(folder), *asked)[0] == 0
    text = (folder / "records" / "suite.jsonl").read_text() + (folder / "README.md").read_text()
    assert str(tmp_path) not in text and "weights:path=own.safetensors#" in text
    assert bench_("leaderboard", "verify", str(folder), *asked)[:2] == (0, "1 published record compared, 0 differ\n")


def test_stored_and_published_records_of_other_versions_are_told(bench_, folder, monkeypatch):
    asked = ["--board", str(folder), "--defense", "ce", "--metric", "accuracy", "--metric", "train_time"]
    bench_("run", *asked)
    bench_("leaderboard", "publish", str(folder), *asked[2:])
    monkeypatch.setattr(type(bench.component("metric", "accuracy")), "version", 2)
    code, _, err = bench_("run", *asked)
    lines = err.splitlines()
    assert code == 0 and len(lines) == 2
    moved = "record@3/metric/accuracy@1() is now record@3/metric/accuracy@2()"
    assert lines[0].startswith("bench: the published accuracy of dataset shapes") and lines[0].endswith(
        f" is stale: {moved}"
    )
    assert lines[1].startswith("bench: the stored accuracy of dataset shapes") and lines[1].endswith(
        f"({moved}); computing it and others like it again"
    )
    ran, run_cells = [], verification.run_cells
    monkeypatch.setattr(verification, "run_cells", lambda cells, *rest: ran.append(cells) or run_cells(cells, *rest))
    for more in ([], ["--sample", "2", "--nonce", "n"]):
        code, out, err = bench_("leaderboard", "verify", str(folder), *asked[2:], *more)
        assert (code, out) == (1, "1 published record compared, 1 differs\n")
        assert f"bench: accuracy of ce is stale: {moved}; publish the board again" in err.splitlines()
    assert [{cell.metric.name for cell in cells} for cells in ran] == [{"train_time"}] * 2


@pytest.mark.parametrize("current", [False, True])
def test_a_record_of_another_version_is_told_also_beside_one_of_this(current):
    class Stale:
        key, metric, case = "new", types.SimpleNamespace(published="accuracy"), types.SimpleNamespace(defense="ce")

        def find_stale(self, records, form):
            return {"old": "1 is now 2"}

    cells, records = [Stale()], [types.SimpleNamespace(key="new", metric="accuracy", axes={})] * current
    left, problems = verification._leave_out_stale(cells, records)
    assert left == cells * current
    assert problems == {"old": "accuracy of ce is stale: 1 is now 2; publish the board again"}


def test_quick_toml_is_a_protocol():
    assert quick_protocol().reference == {"defense": "ce"} and quick_protocol().allowed("accuracy") == 0
    text = PROTOCOL.replace("accuracy = 0.1", 'accuracy = 0.1\n"topk_overlap:k=5" = 0.2')
    protocol = parse_protocol(text.encode(), "x")
    assert (protocol.allowed("topk_overlap:k=5"), protocol.allowed("topk_overlap:k=7")) == (0.2, 0.1)


def test_columns_stand_in_the_order_of_the_protocol():
    protocol = parse_protocol(PROTOCOL.encode(), "x")
    columns = [
        Column("topk_overlap", "uniform_noise", "linf:8/255"),
        Column("other", "", ""),
        Column("accuracy", "", ""),
    ]
    ordered = sorted(columns, key=lambda c: place_column(protocol, c))
    assert [c.metric for c in ordered] == ["accuracy", "topk_overlap", "other"]


def test_what_a_submission_would_change_is_told(bench_, published):
    top = published.parent
    shutil.copytree(top, top.parent / "before")
    assert bench_("leaderboard", "diff", str(top.parent / "before"), str(top)) == (
        0,
        "No rank and no score changes.\n",
        "",
    )
    text = '[score]\nmetric = "topk_overlap"\n'
    for folder in (published, top.parent / "before" / "tiny"):
        (folder / "board.toml").write_text(PROTOCOL + text)
    file = top.parent / "before" / "tiny" / "records" / "suite.jsonl"
    lines = [line for line in file.read_text().splitlines(keepends=True) if json.loads(line)["axes"]["defense"] == "ce"]
    file.write_text("".join(lines))
    code, out, err = bench_("leaderboard", "diff", str(file.parents[1]), str(published))
    assert (code, err) == (0, "") and out.startswith("### `A \\| tiny *board*`\n")
    row = next(line.split("|") for line in out.splitlines() if "`l2`" in line)
    assert [cell.strip() for cell in row[2:6]] == ["-", "-", "1", "`0.610`"]
    code, out, err = bench_("leaderboard", "diff", str(published), str(top))
    assert (code, out) == (2, "") and f"{published} is a board, but {top} is not; name two boards, or" in err
    code, _, err = bench_("leaderboard", "diff", str(published / "records"), str(published / "records"))
    assert code == 2 and "no board in" in err and "(none has a board.toml); name folders of boards" in err
    code, _, err = bench_("leaderboard", "diff", str(top / "none"), str(top))
    assert code == 3 and "none does not exist; name the folder of a board, or of all boards" in err


@pytest.mark.parametrize("ball", ["8/255", "linf:4/255"])
def test_a_score_has_a_budget_of_its_board(bench_, folder, ball):
    (folder / "board.toml").write_text(PROTOCOL + f'[score]\nmetric = "topk_overlap"\nball = "{ball}"\n')
    code, _, err = bench_("leaderboard", "build", str(folder))
    assert code == 2 and f"board.toml: score.ball is '{ball}', must be one of linf:8/255\n" in err


@pytest.mark.slow
def test_a_board_with_a_ceiling_is_run_published_built_and_run_again(bench_, folder):
    text = PROTOCOL.replace('metrics = ["accuracy", "topk_overlap", "train_time"]', f"metrics = {json.dumps(SCALE)}")
    text = text.replace('"uniform_noise"]', '"uniform_noise", "no_attack"]').replace('["ce", "l2"]', '["ce"]')
    text = text.replace('explainer = ["gradient"]', 'explainer = ["gradient", "smoothgrad:samples=2"]')
    score = {"metric": SCALE[0], "chance": SCALE[1], "ties": SCALE[2], "attack": "topk:k=5,steps=2"}
    score |= {"ceiling": "no_attack", "noise": "uniform_noise"}
    (folder / "board.toml").write_text(
        text + "[score]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in score.items())
    )
    assert bench_("run", "--board", str(folder))[0] == 0
    assert bench_("leaderboard", "publish", str(folder))[0] == 0
    assert bench_("leaderboard", "build", "--check", str(folder)) == (0, "", "")
    assert bench_("leaderboard", "verify", str(folder))[:2] == (0, "10 published records compared, 0 differ\n")
    board = read_board(folder)
    ceilings = {row.axes["explainer"]: row.estimates[board.ceiling].value for row in board.rows}
    assert ceilings["gradient"] == 1 and 0 < ceilings["smoothgrad:samples=2"] < 1
    found = {row.axes["explainer"]: row.standing for row in board.rows}
    assert found["gradient"].value.value == found["gradient"].score.value
    noisy = found["smoothgrad:samples=2"]
    assert noisy.value.value == pytest.approx(noisy.score.value / ceilings["smoothgrad:samples=2"])


SCALE = [
    "topk_overlap:k=5",
    "data_dependence:similarity=(topk_overlap:k=5)",
    "self_similarity:similarity=(topk_overlap:k=5)",
]
