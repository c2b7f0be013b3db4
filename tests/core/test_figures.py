"""Areas under budgets and the figures of papers: from made-up records and evidence, and once from a run."""

from __future__ import annotations

import csv
import io
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from bench.boards import RECORD, VALUES, Record, values_file
from bench.boards.render import format_areas
from bench.boards.statistics import summarise
from bench.cli.commands import main
from bench.engine import COST, SPEC, TENSORS, VOCABULARY, Graph, Memory, Shared, list_cells, list_curves, read_record
from bench.engine.selection import select
from bench.engine.store import pack_tensors
from bench.errors import BadValue
from bench.publishing import OF_PICTURES, OF_SCORES, describe_figures, draw_pictures, draw_scores
from bench.publishing.figures.canvas import name_rows
from bench.publishing.figures.pictures import Pictures
from bench.testing import tiny_images, tiny_network


@pytest.fixture
def put(store, catalog):
    """Store made-up records: `put(score, metric=["cosine"])` returns their cells. `score(cell)` is the value of every
    image, or that of every level."""

    def make(score, names=("",), **options):
        selection = select(catalog, {"samples": ["4"], **options}, reference=False)
        cells = list_cells(catalog, selection.cases, selection.metrics)
        for cell in cells:
            values = np.tile(score(cell), (4, 1)).reshape(4, len(names))
            kept = np.ones(4, bool) if cell.reaches_attack else None
            summary = summarise(values, names, kept, cell.metric.range)
            record = Record(
                metric=str(cell.metric), axes=cell.axis_texts(), value=summary.value, value_kept=None, n=4,
                kept=summary.kept, undefined=0, ci95=summary.ci95, levels=summary.levels, better=cell.metric.better,
                unit="", help="", cost={"trained": 2.0 + cell.case.seed}, flags=(), paper="",
                command="", key=cell.key, spec=cell.spec,
            )  # fmt: skip
            files = {RECORD: record.line().encode(), VALUES: values_file(cell.key, np.arange(4), names, values, kept)}
            store.write("record", cell.key, files)
        return cells

    return make


@pytest.fixture
def draw(store):
    """Draw a figure of stored records: `draw("budgets", cells)` returns its numbers as texts."""

    def run(name, cells, over="defense", varied=()):
        drawing = draw_scores(name, cells, store, over, varied, "bench run")
        with Image.open(io.BytesIO(drawing.png)) as picture:
            assert picture.format == "PNG" and min(picture.size) > 200
        return list(csv.DictReader(io.StringIO(drawing.as_text(".csv"))))

    return run


def by_budget(cell):
    """Falls as eps grows, and by 0.05 from seed to seed."""
    return {"0": 1.0, "2/255": 0.9, "4/255": 0.7, "8/255": 0.1}[str(cell.case.ball.eps)] - 0.05 * cell.case.seed


EPS = {"eps": ["0", "2/255", "4/255", "8/255"]}


def test_a_run_prints_and_draws_areas_half_the_ends_and_all_between(put, bench_, tmp_path):
    put(by_budget, metric=["cosine"], **EPS)
    words = ("run", "--metric", "cosine", "--samples", "4", "--eps", "0,2/255,4/255,8/255")
    code, out, err = bench_(*words, "--plot", str(tmp_path / "p.png"))
    assert code == 0, err
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.format == "PNG"
    (row,) = [line.split() for line in out.splitlines() if "linf 2/255 4/255 8/255" in line]
    assert row[:3] == ["ce", "topk", "cosine"]
    assert (row[-6], row[-3]) == ("1.200", "0.600")  # 0.9 / 2 + 0.7 + 0.1 / 2, and half of it


def test_one_budget_has_no_area_and_draws_no_plot(put, store, bench_):
    (cell,) = put(by_budget, metric=["cosine"])
    assert list_curves([read_record(store, cell)], store) == []
    code, _, err = bench_("run", "--metric", "cosine", "--samples", "4", "--plot", "p.png")
    assert code == 2 and "--plot p.png: no score has several budgets; give two with --eps, such as 2/255,4/255" in err


def test_areas_go_over_the_seeds_of_a_row(put, store):
    cells = put(by_budget, metric=["cosine"], seed=["0", "1"], **EPS)
    (curve,) = list_curves([read_record(store, cell) for cell in cells], store)
    assert list(curve.points) == ["0", "2/255", "4/255", "8/255"]
    assert curve.points["4/255"].value == pytest.approx(0.675)
    assert curve.find_area(normalised=True).value == pytest.approx(0.575)
    assert "0.575" in format_areas([curve]) and format_areas([]) == ""


def test_budgets_and_their_numbers(put, draw):
    rows = draw("budgets", put(by_budget, metric=["cosine"], **EPS))
    assert [(row["ball"], float(row["value"])) for row in rows] == [
        ("linf:0", 1.0), ("linf:2/255", 0.9), ("linf:4/255", 0.7), ("linf:8/255", 0.1),
    ]  # fmt: skip
    assert {row["defense"] for row in rows} == {"ce"}


def test_a_sweep_is_over_a_parameter_of_a_component(put, draw):
    defenses = ["l2:weight=1", "l2:weight=0.01", "l2:weight=0.1"]
    cells = put(lambda cell: cell.case.defense.weight, metric=["cosine"], defense=defenses)
    cells += put(lambda cell: 0.5, metric=["cosine"])  # the reference row has no such parameter
    rows = draw("sweep", cells, "defense", ["weight"])
    assert [(row["weight"], row["value"]) for row in rows] == [("0.01", "0.01"), ("0.1", "0.1"), ("1.0", "1.0")]


def test_metrics_that_are_swept_share_a_panel(put, draw):
    cells = put(
        lambda cell: float(cell.metric.eps) * (50 if cell.metric.name == "crc_bound" else 1),
        model=["lenet:activation=softplus"],
        metric=[f"{name}:eps={eps}" for name in ("crc", "crc_bound") for eps in ("1/255", "1/51")],
    )
    rows = draw("sweep", cells, "metric", ["eps"])
    assert [(row["metric"], round(255 * float(row["eps"])), round(255 * float(row["value"]))) for row in rows] == [
        ("crc", 1, 1), ("crc", 5, 5), ("crc_bound", 1, 50), ("crc_bound", 5, 250),
    ]  # fmt: skip


def test_levels_come_in_the_order_of_the_metric(put, draw):
    rows = draw("levels", put(lambda cell: [0.1, 0.2, 0.9], ("5%", "10%", "100%"), metric=["insertion"]))
    assert [(row["level"], round(float(row["value"]), 9)) for row in rows] == [("5%", 0.1), ("10%", 0.2), ("100%", 0.9)]


def test_every_seed_is_a_point(put, draw):
    rows = draw("seeds", put(by_budget, metric=["cosine"], seed=["0", "1", "2"], eps=["2/255"]))
    assert [(row["seed"], round(float(row["value"]), 9)) for row in rows] == [("0", 0.9), ("1", 0.85), ("2", 0.8)]


def test_a_tradeoff_has_a_point_for_each_row(put, draw):
    cells = put(lambda cell: 0.25, metric=["accuracy"], defense=["ce", "l2"], seed=["0", "1"])
    cells += put(by_budget, metric=["cosine"], defense=["ce", "l2"], seed=["0", "1"], eps=["2/255"])
    rows = draw("tradeoff", cells)
    assert [(row["defense"], row["accuracy"], row["seconds"]) for row in rows] == [
        ("ce", "0.25", "2.5"),
        ("l2", "0.25", "2.5"),
    ]
    assert {round(float(row["value"]), 9) for row in rows} == {0.875}


def test_a_histogram_counts_every_image_of_every_seed(put, draw):
    rows = draw("histograms", put(by_budget, metric=["cosine"], seed=["0", "1"], eps=["2/255"]))
    filled = [
        (int(row["value"]), round(float(row["from"]), 4), round(float(row["to"]), 4))
        for row in rows
        if row["value"] != "0"
    ]
    assert len(rows) == 20 and filled == [(4, 0.85, 0.8525), (4, 0.8975, 0.9)]


def test_a_histogram_of_nothing_says_why(put, draw):
    with pytest.raises(BadValue, match="figure histograms: no metric here has a value for each image; give another"):
        draw("histograms", put(lambda cell: np.nan, metric=["cosine"]))


def test_many_panels_stand_in_rows(put, store):
    cells = put(by_budget, metric=["cosine", "pearson", "spearman", "ssim"], **EPS)
    plot = draw_scores("budgets", cells, store, "defense", (), "bench run").plot
    corners = [axis.get_subplotspec().get_geometry()[:3] for axis in plot.axes]
    assert corners == [(2, 3, 0), (2, 3, 1), (2, 3, 2), (2, 3, 3)] and len(plot.legends) == 1


def test_rows_are_named_by_what_sets_them_apart():
    both = {"defense": "ce", "explainer": "gradient", "surrogate": "gradient", "ball": "linf:0"}
    rows = [both, {**both, "explainer": "lrp"}, {**both, "explainer": "lrp", "surrogate": "lrp"}, {"defense": "ce"}]
    assert name_rows(rows) == ["gradient", "lrp, gradient", "lrp", "ce"]
    assert name_rows([both, both]) == ["ce", "ce"]


def test_transfers_go_from_surrogates_to_explainers(put, draw):
    pairs = {"explainer": ["gradient", "occlusion"], "surrogate": ["gradient", "smoothgrad"]}
    cells = put(lambda cell: 0.1 + 0.2 * (cell.case.explainer.name == "occlusion"), metric=["cosine"], **pairs)
    rows = draw("transfers", cells)
    assert {(row["surrogate"], row["explainer"], round(float(row["value"]), 9)) for row in rows} == {
        ("gradient", "gradient", 0.1), ("gradient", "occlusion", 0.3),
        ("smoothgrad", "gradient", 0.1), ("smoothgrad", "occlusion", 0.3),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["budgets", "sweep", "maps"])
def test_what_is_missing_comes_with_the_command_that_computes_it(bench_, name, tmp_path):
    words = ["--defense", "l2", "--eps", "2/255,4/255", *(["--metric", "cosine"] if name in OF_SCORES else [])]
    vary = ["--vary", "weight=0.5,2"] if name == "sweep" else []
    code, _, err = bench_("figure", name, *words, *vary, "--no-reference", "--out", str(tmp_path / "f.png"))
    defense = "l2:weight=0.5" if vary else "l2"
    assert code == 3 and f"figure {name}: the store lacks " in err and f"defense {defense}" in err
    run = shlex.split(err.partition("; first run ")[2])
    assert run[:2] == ["bench", "run"] and run[-1] == "--no-reference"
    assert main.commands["run"].make_context("run", run[2:])
    assert run.count("--defense") == 1 + bool(vary) and run[run.index("--eps") + 1] == "2/255,4/255"


BAD = [
    (["frob"], 2, "no figure called 'frob'; known: budgets, histograms, levels, maps, masked, reconstructions, "),
    (["bugets"], 2, "no figure called 'bugets'; did you mean 'budgets'?"),
    (["maps", "--metric", "cosine"], 2, "figure maps draws an image and no score; leave --metric out"),
    (
        ["maps", "--out", "no/where.png"],
        2,
        "--out no/where.png is not a file in an existing folder; name one, such as ",
    ),
    (["maps", "--data", "f.txt"], 2, "--data f.txt: the name ends in .csv or .json"),
    (["sweep", "--metric", "cosine"], 2, "figure sweep: vary one parameter, such as l2=0.01,0.1, and say "),
    (["budgets", "--metric", "cosine"], 2, "figure budgets: no score here has several budgets; give two as eps"),
    (["levels", "--metric", "cosine"], 2, "figure levels: no metric here has levels; bench show metric:NAME says "),
    (["tradeoff", "--metric", "cosine"], 2, "figure tradeoff: give the metric accuracy and one that compares maps"),
    (["transfers", "--metric", "accuracy"], 2, "figure transfers: no score here compares maps under attack; give "),
    (
        ["seeds", "--metric", "crc_bound", "--model", "lenet:activation=relu"],
        2,
        "figure seeds: these options select nothing to draw",
    ),
]


@pytest.mark.parametrize(("words", "code", "text"), BAD, ids=str)
def test_a_figure_that_cannot_be_drawn_says_why(put, bench_, tmp_path, monkeypatch, words, code, text):
    monkeypatch.chdir(tmp_path)
    put(by_budget, metric=["cosine", "accuracy"])
    found, _, err = bench_("figure", *words, "--samples", "4")
    assert (found, text in err) == (code, True), err


@pytest.fixture
def graph_of(catalog, store):
    """A graph of made-up evidence, for cases: `graph_of(explainer=["gradient"])`."""
    images, targets = tiny_images(2)
    images = images.float()
    maps = torch.arange(144.0).view(1, 1, 12, 12).expand(2, 3, 12, 12) + 1
    given = {
        "images": images,
        "attacked_images": images.flip(3),
        "targets": targets,
        "network": tiny_network(smooth=True, dtype=torch.float32),
        "clean_attributions": maps,
        "attacked_attributions": maps.flip(2),
    }

    def make(over="defense", varied=(), image=1, **options):
        cases = select(catalog, options, reference=False).cases
        graphs = [Graph(VOCABULARY, case, store, torch.device("cpu"), Memory(), given) for case in cases]
        return Pictures(graphs, image, over, tuple(varied)), given

    return make


def test_maps_stand_in_a_grid_of_two_parameters(graph_of):
    texts = [f"l2_cosd:l2={a},cosine={b}" for a in ("0.1", "1") for b in ("0.5", "2")]
    pictures, _ = graph_of(varied=("l2", "cosine"), defense=[*texts, "ce"])
    drawing = OF_PICTURES["maps"](pictures)
    assert [row["overlap"] for row in drawing.rows] == [0.0] * 5
    with Image.open(io.BytesIO(drawing.png)) as picture:
        four, three = picture.size[0] / (2 * 1.7 * 110), picture.size[1] / (2.1 * 110)
    assert (four, three) == pytest.approx((4, 2), abs=0.02)  # the image, two columns of a grid, and one of ce
    with pytest.raises(BadValue, match="figure maps: the cases differ by more than --vary says; give every other"):
        OF_PICTURES["maps"](graph_of(varied=("l2",), defense=texts)[0])
    with pytest.raises(BadValue, match="--image 2: there are 2 images, 0 to 1"):
        OF_PICTURES["maps"](graph_of(image=2)[0])


def test_reconstructions_show_the_largest_pixels_of_the_attacked_map(graph_of):
    pictures, given = graph_of()
    rows = OF_PICTURES["reconstructions"](pictures).rows
    image, network = given["images"][1], given["network"]
    for row in rows:
        count = int(row["share"] * 144)  # the last rows of the map are the first of the attacked one
        shown = torch.full((3, 144), 0.5)  # the mean colour
        order = torch.arange(144).view(12, 12).flip(0).flatten().argsort(descending=True)[:count]
        shown[:, order] = image.flatten(1)[:, order]
        assert row["probability"] == pytest.approx(float(network(shown.view(1, 3, 12, 12)).softmax(1)[0, 1]))
    assert [row["share"] for row in rows] == [0.05, 0.2, 0.4, 0.6]
    with pytest.raises(BadValue, match="in rotation:30, the attacked map is not one of the clean image; draw maps, or"):
        OF_PICTURES["reconstructions"](graph_of(norm=["rotation"], eps=["30"])[0])


def test_masked_images_come_with_the_probability_of_the_class(graph_of):
    pictures, given = graph_of(explainer=["gradient", "relex"], eps=["2/255", "4/255"])
    rows = OF_PICTURES["masked"](pictures).rows
    image, network = given["attacked_images"][1], given["network"]
    flat = given["attacked_attributions"][1].sum(0)
    scale = (flat - flat.min()) / (flat.flatten().quantile(0.99) - flat.min())
    masks = {
        "image": torch.ones(1),
        "gradient": scale.clamp(0, 1),
        "relex": given["attacked_attributions"][1].clamp(0, 1),
    }
    assert [row["shown"] for row in rows] == ["image"] * 2 + ["gradient"] * 2 + ["relex"] * 2
    for row in rows:
        shown = 0.5 + masks[row["shown"]] * (image - 0.5)
        expected = float(network(shown[None]).softmax(1)[0, 1])
        assert row["probability"] == pytest.approx(expected, abs=1e-6)


def test_every_figure_says_in_the_help_what_it_shows(bench_):
    code, out, _ = bench_("figure", "--help")
    assert code == 0 and {name for name, about in describe_figures() if about} == {*OF_SCORES, *OF_PICTURES}
    assert all(f"\n  {name} " in out for name in (*OF_SCORES, *OF_PICTURES))


def test_pictures_come_from_the_store_alone(catalog, store, monkeypatch):
    (case,) = select(catalog, {"samples": ["2"]}, reference=False).cases
    graph = Graph(VOCABULARY, case, store, torch.device("cpu"), Memory())
    images = graph.get("images")
    made = {
        "trained": case.model.build((3, 32, 32), 10).state_dict(),
        "clean_attributions": {"value": images},
        "attack_run": {"images": images},
        "attacked_attributions": {"value": 1 - images},
    }
    for name, tensors in made.items():
        files = {TENSORS: pack_tensors(tensors), COST: b"[]", SPEC: graph.spec(name).encode()}
        store.write(name, graph.key(name), files)
    shared = Shared(catalog.library)
    monkeypatch.setattr(store, "write", None)
    drawing = draw_pictures("maps", [case], store, torch.device("cpu"), shared, 1, "defense", (), "bench run")
    (row,) = drawing.rows
    assert (row["image"], row["defense"], row["attack"]) == (1, "ce", "topk") and row["overlap"] < 0.5
