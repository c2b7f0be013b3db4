"""Where rows stand: the score's attack, shares of the ceiling, lost images, stronger attacks, and what unranks."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from scipy import stats
from test_page import record

from bench.boards.board import read_board
from bench.boards.columns import SHARE, WORST, Column
from bench.boards.protocol import parse_protocol
from bench.boards.record import values_file
from bench.boards.render.site import render_board, render_overview
from bench.boards.render.wording import describe_column, describe_leaders, describe_score, list_unranked
from bench.boards.statistics import difference, estimate, fill, share, summarise
from bench.errors import BadValue

TOML = """
title = "Made up"
metrics = ["overlap", "chance", "itself"]
[axes]
dataset = ["shapes"]
split = ["test"]
model = ["lenet"]
schedule = ["quick"]
defense = ["ce", "good", "odd"]
seed = [0]
explainer = ["gradient"]
attack = ["topk", "strong", "noise", "still"]
eps = ["8/255"]
norm = ["linf"]
target = ["predicted"]
samples = [40]
[reference]
defense = "ce"
[fallback]
surrogate = "gradient"
[control]
defense = ["odd"]
[score]
metric = "overlap"
attack = "strong"
ceiling = "still"
noise = "noise"
ties = "itself"
chance = "chance"
"""
BALL, COUNT = "linf:8/255", 40
SPREAD = np.random.default_rng(0).normal(0, 0.02, COUNT)
ROWS = {
    "ce": {"topk": 0.5, "strong": 0.3, "noise": 0.8, "still": 1.0, "chance": 0.1, "itself": 1.0},
    "good": {"topk": 0.6, "strong": 0.4, "noise": 0.5, "still": 0.5, "chance": 0.05, "itself": 1.0},
    "odd": {"topk": 0.1, "strong": 0.1, "noise": 0.1, "still": 0.1, "chance": 0.1, "itself": 1.0},
}


def spread(level):
    """Values about a level, not all the same except at 1; no two levels have the same spread."""
    return np.full(COUNT, 1.0) if level == 1 else level + SPREAD * np.cos(np.arange(COUNT) * (1 + level))


def build(place, rows=ROWS, toml=TOML, flags=(), flips=(), bounds=(0.0, 1.0), seeds="0", better="higher", models=None):
    """A board: `rows` has the values, or their mean, of each attack and metric of a defense; `flags` and `flips` name
    (defense, attack) pairs whose records carry a flag or whose predictions change; `models` has the model of a defense
    that has another than the rest."""
    made = []
    for defense, columns in rows.items():
        for name, values in columns.items():
            for seed in seeds:
                model = (models or {}).get(defense, "lenet")
                axes = {"dataset": "shapes", "split": "test", "model": model, "schedule": "quick", "seed": seed}
                axes |= {"defense": defense, "explainer": "gradient", "target": "predicted", "samples": "40"}
                under = {"surrogate": "gradient", "attack": name, "ball": BALL}
                metric = name if name in ("chance", "itself", "useful") else "overlap"
                values = spread(values) if isinstance(values, float) else np.asarray(values, float)
                one = record_of(metric, axes if metric == name else axes | under, values, bounds, better)
                if (defense, name) in flags:
                    one = dataclasses.replace(one, flags=("odd: a doubt",))
                made.append((one, values[:, None], [""], None if metric == name else (defense, name) not in flips))
    (place / "records").mkdir(parents=True)
    (place / "board.toml").write_text(toml)
    (place / "records" / "suite.jsonl").write_text("".join(one.line() + "\n" for one, *_ in made))
    files = [
        values_file(one.key, np.arange(len(table)), names, table, None if kept is None else np.full(len(table), kept))
        for one, table, names, kept in made
    ]
    tables = [pyarrow.parquet.read_table(io.BytesIO(file)) for file in files]
    pyarrow.parquet.write_table(pyarrow.concat_tables(tables), place / "records" / "suite.values.parquet")
    return read_board(place)


def changed(**rows):
    return {defense: {**columns, **rows.get(defense, {})} for defense, columns in ROWS.items()}


def record_of(metric, axes, values, bounds, better):
    one, *_ = record(metric, axes, np.zeros((1, 1)))
    found = summarise(np.array(values)[:, None], ("",), None, bounds)
    return dataclasses.replace(
        one, value=found.value, ci95=found.ci95, undefined=found.undefined, range=bounds,
        better="lower" if metric == "chance" else better,
        objective={"before": 1.0, "after": 0.5, "success": 1.0} if axes.get("attack") == "topk" else {},
    )  # fmt: skip


def row_of(board, defense):
    return next(row for row in board.rows if row.axes["defense"] == defense)


def ranks(board):
    return {r.axes["defense"]: "control" if r.control else str(r.rank or r.missing) for r in board.rows}


def one(values, better="higher", bounds=(0.0, 1.0), seed="0"):
    """An estimate of one seed."""
    made = record_of("m", {"seed": seed, "defense": "d"}, np.array(values, float), bounds, better)
    return estimate([made], {made.key: list(values)})


def test_rows_rank_by_their_share_of_the_ceiling_under_the_scores_attack(tmp_path):
    board = build(tmp_path / "b")
    assert board.measured == Column("overlap", "strong", BALL) and board.score == Column("overlap", SHARE, BALL)
    assert ranks(board) == {"good": "1", "ce": "2", "odd": "control"}
    good, ce = (row_of(board, name) for name in ("good", "ce"))
    expected = spread(0.4).mean() / spread(0.5).mean()
    assert good.standing.value.value == good.estimates[board.score].value == pytest.approx(expected)
    assert ce.standing.value.value == pytest.approx(spread(0.3).mean())
    assert ce.estimates[board.score].ci95 == ce.standing.score.ci95  # nothing to divide by
    # A control in the same scale: it keeps all that it has.
    assert row_of(board, "odd").estimates[board.score].value == pytest.approx(1, abs=0.05)


GUARD = TOML.replace('chance = "chance"', 'chance = "chance"\nagainst = "useful"\nguard = 0.05').replace(
    '"itself"]', '"itself", "useful"]'
)


def of_guard(board):
    return {r.axes["defense"]: (str(r.rank or r.loses or r.missing), str(r.unguarded or "")) for r in board.rows}


def useful(good, ce=0.9, **more):
    return changed(ce={"useful": ce}, good={"useful": good, **more}, odd={"useful": 0.1})


@pytest.mark.parametrize(("good", "bad"), [(0.849, True), (0.8501, False), (0.95, False)])
def test_a_row_that_loses_too_much_is_ranked_only_without_the_guard(tmp_path, good, bad):
    level = {name: np.full(COUNT, value) for name, value in (("ce", 0.9), ("good", good))}
    board = build(tmp_path / "b", useful(level["good"], level["ce"]), GUARD)
    words = f"{good:.3f} in useful, where the reference has 0.900"
    assert of_guard(board) == (
        {"good": (words, "1"), "ce": ("1", "2"), "odd": ("", "")}
        if bad
        else {"good": ("1", "1"), "ce": ("2", "2"), "odd": ("", "")}
    ) | {"odd": (row_of(board, "odd").loses, "")}
    assert [row.axes["defense"] for row in board.rows] == (["ce", "good", "odd"] if bad else ["good", "ce", "odd"])
    told = [line for line in list_unranked(board) if "loses too much" in line]
    assert told == ([f"Not ranked: good (loses too much: {words})."] if bad else [])
    assert any("over 0.05 less in useful than the reference" in line for line in describe_score(board))
    assert describe_leaders(board)[0].startswith("ce is" if bad else "good is")
    files = render_board(board)
    rows = {(row["defense"], row["rank"], row["unguarded"]) for row in csv.DictReader(io.StringIO(files["table.csv"]))}
    assert rows == {("good", "" if bad else "1", "1"), ("ce", "1" if bad else "2", "2"), ("odd", "", "")}
    assert ("1 does not lead, since it loses more than 0.05 of useful." in files["index.html"]) == bad
    assert "| unguarded rank" in files["README.md"] and "Unguarded</button>" in files["index.html"]
    entries = {row["axes"]["defense"]: row for row in json.loads(files["board.json"])["rows"]}
    assert entries["good"]["unguarded"] == [1, 1] and entries["good"]["loses"] == (words if bad else "")
    assert entries["good"]["rank"] == (None if bad else [1, 1])


def test_a_guard_looks_where_lower_is_better_the_other_way(tmp_path):
    rows = useful(np.full(COUNT, 0.96), np.full(COUNT, 0.9))
    assert of_guard(build(tmp_path / "b", rows, GUARD, better="lower"))["good"][0].startswith("0.960 in useful")
    rows = useful(np.full(COUNT, 0.5), np.full(COUNT, 0.9))
    assert row_of(build(tmp_path / "c", rows, GUARD, better="lower"), "good").loses == ""


def test_no_row_escapes_the_guard_where_other_rows_have_a_reference(tmp_path):
    toml = GUARD.replace('model = ["lenet"]', 'model = ["lenet", "resnet20"]')
    board = build(tmp_path / "b", useful(np.full(COUNT, 0.1)), toml, models={"good": "resnet20"})
    assert of_guard(board)["good"] == ("no reference row to compare its useful with", "")
    assert of_guard(board)["ce"] == ("1", "1")


def test_a_guard_asks_nothing_of_rows_without_a_reference(tmp_path):
    rows = {"good": useful(np.full(COUNT, 0.1))["good"]}
    assert of_guard(build(tmp_path / "b", rows, GUARD)) == {"good": ("1", "1")}
    board = build(tmp_path / "c", useful(np.full(COUNT, 0.1)), GUARD.replace("guard = 0.05\n", ""))
    assert of_guard(board)["good"] == ("1", "1") and "unguarded rank" not in render_board(board)["README.md"]


def test_a_guard_without_a_metric_is_refused():
    with pytest.raises(BadValue, match=r"score\.guard is 0\.05, but no metric is guarded; name it in score\.against"):
        parse_protocol(GUARD.replace('against = "useful"\n', "").encode(), "board.toml")


def test_without_a_ceiling_rows_rank_by_the_score_itself(tmp_path):
    toml = TOML.replace('ceiling = "still"\n', "")
    board = build(tmp_path / "b", changed(good={"strong": 0.25}), toml)
    assert board.score == board.measured == Column("overlap", "strong", BALL) and board.ceiling is None
    assert ranks(board) == {"ce": "1", "good": "2", "odd": "control"}
    assert not any(column.attack == SHARE for column in board.columns)


def test_no_attack_and_no_ceiling_yet_leave_a_board_readable(tmp_path):
    rows = {d: {n: v for n, v in columns.items() if n in ("topk", "noise")} for d, columns in ROWS.items()}
    board = build(tmp_path / "b", rows)
    assert board.score == Column("overlap", WORST, BALL) and ranks(board)["ce"] != "control"
    text = " ".join(describe_score(board))
    assert "There are no records under strong yet, so the score is that of the worst case of all attacks." in text
    assert "There are no records under still yet, so scores are not divided by their ceiling." in text
    files = render_board(board)
    assert "no records under strong yet" in files["README.md"] and "no records under strong yet" in files["index.html"]


def test_the_ceiling_is_in_no_worst_case_and_no_area(tmp_path):
    toml = TOML.replace('attack = "strong"', "").replace('["8/255"]', '["8/255", "2/255"]')
    board = build(tmp_path / "b", changed(ce={"still": 0.1}), toml)
    worst = row_of(board, "ce").estimates[Column("overlap", WORST, BALL)]
    assert worst.value == pytest.approx(np.min([spread(v) for v in (0.5, 0.3, 0.8)], 0).mean())
    assert board.measured.attack == WORST


def test_a_share_is_a_ratio_of_means_with_the_interval_of_the_delta_method():
    draw = np.random.default_rng(1)
    top, base = draw.normal(0.3, 0.1, 50), draw.normal(0.6, 0.1, 50)
    base += 0.5 * (top - 0.3)
    found = share(one(top, bounds=(None, None)), one(base, bounds=(None, None)))
    ratio = top.mean() / base.mean()
    cov = np.cov(top, base)
    variance = (cov[0, 0] - 2 * ratio * cov[0, 1] + ratio**2 * cov[1, 1]) / base.mean() ** 2 / 50
    half = stats.t.ppf(0.975, 49) * variance**0.5
    assert found.value == pytest.approx(ratio) and found.ci95 == pytest.approx((ratio - half, ratio + half))
    # Of ten thousand resamples of the images, 95% are about there.
    picks = draw.integers(0, 50, (10_000, 50))
    resampled = np.percentile(top[picks].mean(1) / base[picks].mean(1), [2.5, 97.5])
    assert found.ci95 == pytest.approx(resampled, abs=0.01)


def test_shares_are_compared_image_by_image():
    draw = np.random.default_rng(2)
    hard = draw.normal(0, 0.1, 60)
    parts = [(0.3 + hard, 0.6 + hard), (0.33 + hard, 0.6 + hard + draw.normal(0, 0.02, 60))]
    mine, other = (share(one(top, bounds=(None, None)), one(base, bounds=(None, None))) for top, base in parts)
    found = difference(other, mine)
    linear = [t.mean() / b.mean() + (t - t.mean() / b.mean() * b) / b.mean() for t, b in parts]
    expected = stats.ttest_rel(linear[1], linear[0]).confidence_interval()
    assert found.value == pytest.approx(other.value - mine.value) and found.ci95 == pytest.approx(expected)


def test_a_share_needs_a_ceiling_above_zero_on_the_same_images():
    ones, halves = one([1.0] * 4), one([0.5, 0.4, 0.6, 0.5])
    assert share(halves, ones).ci95 == halves.ci95 and share(halves, halves).value == 1
    assert share(halves, one([0.0] * 4)) is None and share(halves, one([0.5] * 3)) is None
    assert share(halves, one([0.5] * 4, seed="1")) is None and share(halves, one([0.5, 0.5, 0.5, None])) is None


def test_a_row_without_a_ceiling_is_not_ranked(tmp_path):
    rows = changed(ce={"still": 0.0})
    rows["good"].pop("still")
    rows["ce"]["still"] = np.zeros(COUNT)
    assert ranks(build(tmp_path / "b", rows)) == {
        "ce": "no share of its ceiling, which is zero or of other images",
        "good": "no overlap under still",
        "odd": "control",
    }


@pytest.mark.parametrize("missing", ["topk", "strong", "noise", "still", "itself", "chance"])
def test_a_record_without_values_leaves_the_other_rows_alone(tmp_path, missing):
    board = build(tmp_path / "b", changed(good={missing: np.empty(0)}))
    found = ranks(board)
    # What could speak against a row must be there.
    reasons = {"strong": "no overlap", "itself": "no itself", "chance": "1"}
    assert found["good"] == reasons.get(missing, f"no overlap under {missing}")
    assert found["ce"] == ("2" if missing == "chance" else "1")
    assert set(render_board(board)) == {"README.md", "table.csv", "table.tex", "board.json", "index.html"}


def test_a_score_that_tells_noise_is_not_ranked(tmp_path):
    told = "noise: the interval of the score holds its ceiling and what noise leaves"
    fires = changed(good={"strong": 0.5, "noise": 0.501, "still": 0.499})
    assert ranks(build(tmp_path / "fires", fires)) == {"ce": "1", "good": told, "odd": "control"}
    for name, columns in (
        ("above noise", {"strong": 0.5, "noise": 0.7, "still": 0.5}),
        ("below its ceiling", {"strong": 0.5, "noise": 0.5, "still": 0.6}),
    ):
        assert ranks(build(tmp_path / name, changed(good=columns)))["good"] == "1"
    without = build(tmp_path / "without", fires, TOML.replace('noise = "noise"\n', ""))
    assert ranks(without)["good"] == "1"


def test_a_row_whose_maps_share_far_more_than_the_references_is_not_ranked(tmp_path):
    told = f"chance: maps of different images score {spread(0.3).mean():.3f}, and {spread(0.1).mean():.3f} in the"
    assert ranks(build(tmp_path / "fires", changed(good={"chance": 0.3})))["good"] == f"{told} reference row"
    assert ranks(build(tmp_path / "near", changed(good={"chance": 0.24})))["good"] == "1"
    # A reference row is its own, and a dissimilarity is no similarity.
    assert ranks(build(tmp_path / "itself", changed(ce={"chance": 0.3})))["ce"] == "2"
    lower = build(tmp_path / "lower", changed(good={"chance": 0.3, "noise": 0.3}), better="lower")
    assert not ranks(lower)["good"].startswith("chance")


def test_any_flag_on_the_score_unranks_a_row_which_stays_on_the_board(tmp_path):
    board = build(tmp_path / "b", flags=[("good", "strong"), ("odd", "strong")])
    assert ranks(board) == {"ce": "1", "good": "odd: a doubt", "odd": "control"}
    assert [row.axes["defense"] for row in board.rows] == ["ce", "good", "odd"]
    cell = board.cell(row_of(board, "good"), board.measured)
    assert cell.mark == "*" and cell.text == f"{spread(0.4).mean():.3f}"
    assert list_unranked(board) == ["Not ranked: good (odd: a doubt)."]
    files = render_board(board)
    assert "Not ranked: good (odd: a doubt)." in files["README.md"] and ">odd: a doubt</span>" in files["index.html"]
    assert "1 is not ranked; the table&#39;s notes say why." in files["index.html"]
    assert next(row["missing"] for row in json.loads(files["board.json"])["rows"] if row["axes"]["defense"] == "good")
    # A flag under another attack is none on the score.
    assert ranks(build(tmp_path / "other", flags=[("good", "topk")]))["good"] == "1"


def test_noise_that_beats_the_scores_attack_unranks_a_row(tmp_path):
    board = build(tmp_path / "b", changed(ce={"noise": 0.2}), TOML)
    assert ranks(board)["ce"].startswith("unreliable: moved further by noise")
    # The attack of the score is not blind, and leaving images alone beats nothing.
    flags = {
        flag for r in build(tmp_path / "c", changed(good={"still": 0.2, "noise": 0.8})).records for flag in r.flags
    }
    assert not flags


def holes(level, count=10):
    return np.where(np.arange(COUNT) < count, np.nan, spread(level))


def test_undefined_images_count_as_lost(tmp_path):
    board = build(tmp_path / "b", changed(good={"strong": holes(0.4), "still": 1.0}, ce={"strong": 0.45}))
    good = row_of(board, "good")
    expected = np.nan_to_num(holes(0.4)).mean()
    assert good.standing.score.value == pytest.approx(expected) and ranks(board)["ce"] == "1"
    cell = board.cell(good, board.measured)
    assert (cell.text, cell.mark) == (f"{expected:.3f}", "* 10 lost")
    lines = list(csv.DictReader(io.StringIO(render_board(board)["table.csv"])))
    (line,) = [x for x in lines if (x["defense"], x["metric"], x["attack"]) == ("good", "overlap", "strong")]
    assert (line["undefined"], line["lost"]) == ("10", "10") and float(line["value"]) == pytest.approx(
        expected, abs=1e-5
    )
    assert "lost: undefined images, which count with the worst value" in render_board(board)["README.md"]
    # The record keeps the mean over the other images.
    assert next(r for r in good.standing.score.records).value == pytest.approx(np.nanmean(holes(0.4)))


def test_an_image_lost_in_score_and_ceiling_costs_as_much(tmp_path):
    board = build(tmp_path / "b", changed(good={"strong": holes(0.4), "still": holes(1.0)}))
    good = row_of(board, "good")
    assert good.estimates[board.ceiling].value == 1
    assert good.standing.value.value == pytest.approx(np.nan_to_num(holes(0.4)).mean())


def test_the_worst_value_is_that_of_the_metrics_direction():
    gaps = [0.2, None, 0.4, None]
    assert fill(one(gaps)).images["0"] == [0.2, 0.0, 0.4, 0.0] and fill(one(gaps)).lost == 2
    assert fill(one(gaps, "lower")).images["0"] == [0.2, 1.0, 0.4, 1.0]
    assert fill(one(gaps), best=True).images["0"] == [0.2, 1.0, 0.4, 1.0]
    assert fill(one(gaps, "lower", (0.0, None))) is None and fill(one([0.2, 0.4], "lower", (0.0, None))).lost == 0


def test_without_a_worst_value_a_row_with_undefined_images_is_not_ranked(tmp_path):
    toml = TOML.replace('ceiling = "still"\n', "")
    board = build(tmp_path / "b", changed(good={"strong": holes(0.4)}), toml, bounds=(None, 1.0))
    assert ranks(board) == {
        "ce": "1", "odd": "control",
        "good": "undefined for 10 of 40 images, which have no worst value to count with",
    }  # fmt: skip


def test_without_a_best_value_there_is_no_ceiling_to_divide_by(tmp_path):
    board = build(tmp_path / "b", changed(good={"still": holes(0.5)}), bounds=(0.0, None))
    assert ranks(board)["good"] == "undefined for some images under still, which have no best value to count with"
    assert ranks(board)["ce"] == "1"


def test_a_stronger_attack_of_the_protocol_gives_the_score(tmp_path):
    board = build(tmp_path / "b", changed(ce={"topk": 0.2}))
    ce = row_of(board, "ce")
    assert ce.standing.score.value == pytest.approx(spread(0.2).mean()) and ce.standing.score.under == "topk"
    assert board.cell(ce, board.measured).mark == "under topk" and ranks(board)["ce"] == "2"
    files = render_board(board)
    left = [spread(level).mean() for level in (0.2, 0.3)]
    note = "ce: the score is under topk, which leaves {:.3f} where strong leaves {:.3f}.".format(*left)
    assert note in files["README.md"] and note in files["index.html"]
    lines = list(csv.DictReader(io.StringIO(files["table.csv"])))
    assert {x["defense"]: x["under"] for x in lines if (x["metric"], x["attack"]) == ("overlap", "strong")} == {
        "ce": "topk", "good": "", "odd": ""
    }  # fmt: skip
    assert row_of(board, "good").standing.score.under == ""


@pytest.mark.parametrize("what", ["less than 5%", "chance", "a submission's", "flipped predictions", "the ceiling"])
def test_what_gives_no_score(tmp_path, what):
    rows, toml, flips = changed(), TOML, ()
    if what == "less than 5%":
        rows["ce"]["topk"] = spread(0.3) * 0.96
    elif what == "chance":
        rows["ce"]["topk"] = spread(0.3) * 0.9 + 0.5 * (-1.0) ** np.arange(COUNT)
    elif what == "the ceiling":
        rows["ce"]["still"] = 0.2
    else:
        rows["ce"]["topk"] = 0.2
        toml = TOML.replace('"topk", ', "") if what == "a submission's" else toml
        flips = [("ce", "topk")] if what == "flipped predictions" else ()
    ce = row_of(build(tmp_path / "b", rows, toml, flips=flips), "ce")
    assert ce.standing.score.under == "" and ce.standing.score.value == pytest.approx(spread(0.3).mean())


def test_what_ties_take_is_no_part_of_the_ceiling(tmp_path):
    sparse = {"strong": 0.1, "noise": 0.15, "still": 0.15, "itself": 0.15}
    with_ties = build(tmp_path / "with", changed(good=sparse))
    good = row_of(with_ties, "good")
    expected = np.minimum(1, 1 - (spread(0.15) - spread(0.15)))
    assert good.estimates[with_ties.ceiling].value == expected.mean() == 1
    assert good.standing.value.value == pytest.approx(spread(0.1).mean()) and ranks(with_ties)["ce"] == "1"
    without = build(tmp_path / "without", changed(good=sparse), TOML.replace('ties = "itself"\n', ""))
    assert ranks(without)["good"] == "1"
    noisy = build(tmp_path / "noisy", changed(good={**sparse, "still": 0.12}))
    assert row_of(noisy, "good").estimates[noisy.ceiling].value == pytest.approx(
        (1 - spread(0.15) + spread(0.12)).mean()
    )


def test_ceiling_and_chance_stand_beside_the_score_in_its_scale(tmp_path):
    board = build(tmp_path / "b")
    chance = Column("chance", "", "")
    assert board.summary[:5] == [
        board.score, Column("chance", SHARE, BALL), board.measured, board.ceiling, chance
    ]  # fmt: skip
    good = row_of(board, "good")
    assert good.estimates[board.share_of(chance)].value == pytest.approx(spread(0.05).mean() / spread(0.5).mean())
    leader = describe_leaders(board)[0]
    score, ceiling, level = (spread(level).mean() for level in (0.4, 0.5, 0.05))
    assert leader.startswith(
        f"good is ahead with {score / ceiling:.3f} of its ceiling in overlap (strong); chance is "
        f"{level / ceiling:.3f} [score {score:.3f}, ceiling {ceiling:.3f}, chance {level:.3f}]; the reference, ce, has "
    )
    files = render_board(board)
    for name in ("README.md", "index.html", "table.tex", "table.csv", "board.json"):
        assert "share of ceiling" in files[name]
    assert leader.partition(" [")[0] in render_overview([board])["index.html"]
    content = json.loads(files["board.json"])
    assert content["score"]["attack"] == SHARE and content["measured"]["attack"] == "strong"
    assert content["ceiling"]["attack"] == "still" and content["chance"]["metric"] == "chance"
    assert "This is the chance level" in describe_column(board, chance)
    assert "This is the ceiling" in describe_column(board, board.ceiling)


def test_a_row_ranks_by_its_share_over_the_protocols_seeds(tmp_path):
    board = build(tmp_path / "b", seeds="01")
    good = row_of(board, "good")
    assert set(good.standing.value.images) == {"0"} and set(good.estimates[board.score].images) == {"0", "1"}
    assert " over seed 0; the reference" in describe_leaders(board)[0]


def test_where_lower_is_better_the_ceiling_stands_beside_and_divides_nothing(tmp_path):
    board = build(tmp_path / "b", {d: {**c, "noise": 0.01, "topk": 0.02} for d, c in ROWS.items()}, better="lower")
    assert board.ceiling and board.score == board.measured and ranks(board)["ce"] == "1"
    assert "[ceiling 1.000, chance 0.1" in describe_leaders(board)[0]


@pytest.mark.parametrize("part", ["attack", "ceiling", "noise", "ties", "chance"])
def test_a_score_names_what_its_board_has(part):
    name = next(line for line in TOML.splitlines() if line.startswith(f'{part} = "'))
    allowed = "topk, strong, noise, still" if part in ("attack", "ceiling", "noise") else "overlap, chance, itself"
    with pytest.raises(BadValue, match=f"score.{part} is 'nothing', must be one of {allowed}"):
        parse_protocol(TOML.replace(name, f'{part} = "nothing"').encode(), "board.toml")
