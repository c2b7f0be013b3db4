"""The boards of papers' tables: each printed figure has its cell, at full scale and tiny."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import bench
from bench.axes import KINDS
from bench.boards import Figure, Place, read_protocol, scale_protocol
from bench.boards.board import read_board
from bench.boards.protocol import parse_protocol
from bench.boards.render import render_board
from bench.engine import describe_printed, list_printed, select

FOLDER = Path(__file__).parents[2] / "leaderboards" / "papers"
BOARDS = sorted(file.parent for file in FOLDER.glob("*/board.toml"))


def printed_cells(protocol, catalog, store):
    chosen = select(catalog, {}, protocol=protocol)
    return list_printed(protocol, chosen.cases, chosen.metrics, catalog, store)


@pytest.mark.parametrize("folder", BOARDS, ids=lambda folder: folder.name)
def test_every_printed_figure_has_a_cell_whose_choices_are_written_as_records_write_them(folder, catalog, store):
    whole = read_protocol(folder)
    tiny = scale_protocol(whole, "tiny")
    for protocol in (whole, tiny):
        cells = printed_cells(protocol, catalog, store)
        assert cells and [cell for cell in cells if cell.problem] == []
        for option, kind in {**KINDS, "metric": "metric"}.items():
            texts = protocol.metrics if option == "metric" else protocol.choices(option)
            assert [str(catalog.read(kind, text)) for text in texts] == texts
    for option, change in whole.scales["tiny"].changes.items():
        known = whole.metrics if option == "metric" else whole.choices(option)
        assert isinstance(change, str) or set(change) <= set(known), option
    assert set(tiny.choices("dataset")) <= {"shapes", "shapes:size=16"}  # so that it runs anywhere


def test_the_list_of_boards_names_them_all_with_their_figures():
    listed = dict(re.findall(r"\]\(([\w-]+)/board\.toml\).*\| (\d+) \|", (FOLDER / "README.md").read_text()))
    assert listed == {folder.name: str(len(read_protocol(folder).paper.figures)) for folder in BOARDS}


@pytest.mark.slow
def test_a_tiny_board_runs(bench_, store):
    code, out, _ = bench_("run", "--board", str(FOLDER / "lim2021-table-s3"), "--scale", "tiny", "--json")
    records = json.loads(out)
    assert code == 0 and {record["axes"]["dataset"] for record in records} == {"shapes:size=16"}
    assert len(records) == 12 and all(record["value"] is not None for record in records)


TOML = """
metrics = ["accuracy", "topk_overlap"]
[axes]
dataset = ["nothing"]
split = ["test"]
model = ["lenet"]
schedule = ["quick"]
defense = ["ce"]
seed = [0, 1, 2]
explainer = ["gradient", "lrp"]
attack = ["topk", "mass_center"]
eps = ["2/255", "4/255"]
norm = ["linf"]
target = ["label"]
samples = [100]
[reference]
defense = "ce"
[fallback]
surrogate = "gradient"
[[row]]
defense = ["l2"]
schedule = ["long"]
[score]
metric = "topk_overlap"
attack = "topk"
against = "accuracy"
[scale.tiny]
dataset = "shapes"
schedule = "quick:epochs=1"
seed = 0
samples = 5
[scale.tiny.attack]
"topk" = "topk:steps=2"
[scale.tiny.defense]
"l2" = "l2:weight=1.0"
[scale.tiny.metric]
"topk_overlap" = "topk_overlap:k=5"
[scale.tiny.eps]
"2/255" = "8/255"
[paper]
source = "Somebody, Table 1"
url = ""
metrics = ["accuracy", "topk_overlap"]
rows = [
  {defense = "ce", values = [[0.9, 0.01], "-"]},
  {defense = "l2", explainer = "gradient", attack = "topk", eps = "2/255", values = ["-", 0.5]},
  {defense = "l2", explainer = "gradient", attack = "topk", eps = "AUC", values = ["-", [0.7, 0.02]]},
  {defense = "l2", explainer = "lrp", values = ["-", 0.3]},
]
"""
GRADIENT = (("defense", "l2"), ("explainer", "gradient"))


def protocol_of(text=TOML):
    return parse_protocol(text.encode(), "board.toml")


def test_figures_have_deviations_attacks_budgets_and_areas():
    figures = protocol_of().paper.figures
    assert figures[Place((("defense", "ce"),), "accuracy")] == Figure(0.9, 0.01)
    assert figures[Place(GRADIENT, "topk_overlap", "topk", "linf:2/255")] == Figure(0.5)
    assert figures[Place(GRADIENT, "topk_overlap", "topk", "linf:AUC")] == Figure(0.7, 0.02)
    assert len(figures) == 4 and str(Figure(0.9, 0.01)) == "0.900 ± 0.010"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("[0.9, 0.01]", '"n/a"', r"""is 'n/a', must be a number, \[mean, deviation\] or "-\""""),
        ("[0.9, 0.01]", "[0.9, 0.01, 3]", r"is \[0.9, 0.01, 3\], must be a number, \[mean, deviation\]"),
        ('"AUC"', '"2/255"', r"paper.rows\[2\] has a second figure of topk_overlap for the same row"),
        ('"AUC"', '"AUC?"', r"eps has 'AUC\?'; write a fraction such as 8/255"),
        ("samples = 5", 'samples = "many"', "scale.tiny.samples has 'many', must be a whole number from 1 to"),
        ("samples = 5", "sample = 5", "scale.tiny has the unknown key 'sample'; did you mean 'samples'"),
    ],
)
def test_a_wrong_figure_or_scale_is_named(old, new, problem):
    assert TOML.count(old) == 1
    with pytest.raises(bench.BadValue, match=problem):
        protocol_of(TOML.replace(old, new))


def test_a_scale_replaces_choices_wherever_they_stand():
    tiny = scale_protocol(protocol_of(), "tiny")
    assert (tiny.axes["dataset"], tiny.axes["seed"], tiny.axes["samples"]) == (["shapes"], ["0"], ["5"])
    assert tiny.axes["attack"] == ["topk:steps=2", "mass_center"] and tiny.axes["eps"] == ["8/255", "4/255"]
    assert tiny.rows == [{"defense": ["l2:weight=1.0"], "schedule": ["quick:epochs=1"]}]
    assert (tiny.score.metric, tiny.score.attack, tiny.score.against) == (
        "topk_overlap:k=5",
        "topk:steps=2",
        "accuracy",
    )
    heavy = (("defense", "l2:weight=1.0"), ("explainer", "gradient"))
    assert tiny.paper.figures[Place(heavy, "topk_overlap:k=5", "topk:steps=2", "linf:8/255")] == Figure(0.5)
    assert tiny.paper.figures[Place(heavy, "topk_overlap:k=5", "topk:steps=2", "linf:AUC")] == Figure(0.7, 0.02)


def test_an_unknown_scale_is_named(bench_, tmp_path):
    with pytest.raises(bench.UnknownName, match="no scale called 'tiney'; did you mean 'tiny'"):
        scale_protocol(protocol_of(), "tiney")
    (tmp_path / "board.toml").write_text(re.sub(r"\[scale.*?\n(?=\[paper)", "", TOML, flags=re.DOTALL))
    code, _, err = bench_("plan", "--board", str(tmp_path), "--scale", "tiny")
    assert code == 2 and "no scale called 'tiny'; the board has none" in err
    code, _, err = bench_("run", "--scale", "tiny")
    assert code == 2 and "--scale tiny is of a board; give its --board" in err


def test_the_plan_says_what_each_figure_takes(catalog, store):
    protocol = protocol_of(TOML.replace("nothing", "shapes").replace('"long"', '"quick:epochs=5"'))
    cells = printed_cells(protocol, catalog, store)
    accuracy, single, area, lrp = (text.split("  ")[-1] for text in describe_printed(protocol, cells).splitlines()[4:8])
    assert accuracy == "3 trainings (9 epochs)"
    # Three seeds, a hundred images; the clean images are explained once for both budgets.
    assert single == lrp == "3 trainings (15 epochs), 300 images attacked, 600 images explained"
    assert area == "3 trainings (15 epochs), 600 images attacked, 900 images explained"
    assert "4 printed cells: 6 trainings (24 epochs), 900 images attacked, 1500 images explained" in describe_printed(
        protocol, cells
    )


def test_a_board_without_records_says_that_it_is_a_protocol_only(tmp_path):
    (tmp_path / "board.toml").write_text(TOML)
    assert "Protocol only: no records yet." in render_board(read_board(tmp_path))["README.md"]
