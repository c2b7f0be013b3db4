"""What CONTRIBUTING.md prints works as printed, and what README.md names is there."""

from __future__ import annotations

import csv
import re
import tomllib
from pathlib import Path

import pytest

from bench.engine import catalog as catalogs
from bench.testing import checks

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def printed(file, language):
    """The first block of a language after the first mention of a file."""
    match = re.search(rf"`{re.escape(file)}`.*?```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert match, f"CONTRIBUTING.md prints no {file}"
    return match[1]


@pytest.fixture
def corner(install):
    """The plugin of the walk-through, installed by what its pyproject.toml says."""
    project = tomllib.loads(printed("pyproject.toml", "toml"))
    (module,) = project["tool"]["setuptools"]["py-modules"]
    source = printed(f"{module}.py", "python")
    install(project["project"]["name"], {module: source}, project["project"]["entry-points"]["bench"])


def test_readme_lists_every_component(catalog):
    table = (ROOT / "README.md").read_text().partition("## What is included")[2].partition("\n\n`bench show")[0]
    installed = {name for kind in catalog.components for name in catalog.of(kind)}
    assert set(re.findall(r"`(\w+)`", table)) == installed


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_a_page_links_to_what_is_there(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / target).exists(), target
    for path in re.findall(r"`((?:bench|docs|plugins|benchmarks|\.ci)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path


def test_the_walk_is_under_forty_lines():
    assert len((printed("pyproject.toml", "toml") + printed("bench_corner.py", "python")).splitlines()) < 40


def test_its_plugin_is_listed_shown_and_keeps_the_contracts(corner, bench_):
    code, out, err = bench_("list", "explainer")
    assert (code, err) == (0, "")
    assert re.search(
        r"^explainer +corner +Ranks pixels by their distance to the corner: a control +bench-corner 1\.0$", out, re.M
    )
    code, out, _ = bench_("show", "explainer:corner")
    assert code == 0 and "exponent of the distance" in out
    code, out, _ = bench_("check", "bench-corner")
    assert code == 0 and out.count("ok\n") == 6
    assert all(check.failure() == "" for check in checks("explainer", "corner:power=2", catalogs.load()))


def test_its_plugin_gives_a_row(corner, bench_):
    tiny = ("--schedule", "quick:epochs=1,limit=32", "--samples", "10", "--device", "cpu")
    words = ("--explainer", "corner", "--explainer", "corner:power=2", "--attack", "uniform_noise")
    code, out, err = bench_("run", *words, *tiny, "--metric", "topk_overlap")
    rows = [line.split() for line in out.splitlines()[4:6]]
    assert (code, err) == (0, "")
    # The same map always, but its 20th and its 21st pixel are equal: nobody knows which of them is on top.
    assert [row[:4] for row in rows] == [
        ["ce", "corner", "uniform_noise", "0.950"],
        ["ce", "corner:power=2.0", "uniform_noise", "0.950"],
    ]


def test_its_plugin_stands_on_a_board(corner, bench_, tmp_path):
    ours = ROOT / "leaderboards" / "shapes-quick" / "board.toml"
    board = tmp_path / "board"
    board.mkdir()
    (board / "board.toml").write_text(ours.read_text())
    words = ("--explainer", "corner", "--attack", "uniform_noise", "--metric", "topk_overlap", "--samples", "10")
    options = (*words, "--schedule", "quick:epochs=1,limit=32", "--defense", "ce")
    assert bench_("run", "--board", str(board), *options)[0] == 0
    code, out, err = bench_("leaderboard", "publish", str(board), *options, "--name", "bench-corner")
    assert code == 0 and out.startswith("1 records published as bench-corner\n")
    assert "authors, licence, selection, selected_on are empty; fill in what is true" in err
    assert "axis samples is '10', but the board has 64" in err
    (row,) = (line for line in (board / "README.md").read_text().splitlines() if "| corner" in line)
    assert "0.950 [0.95, 0.95]" in row


def test_its_metric_keeps_the_contracts(install, bench_):
    block = TEXT[TEXT.index("@dataclass(frozen=True)\nclass Distance") :].partition("```")[0]
    head = "from dataclasses import dataclass\nimport torch\nimport bench\n\n"
    hook = "\n@bench.hookimpl\ndef bench_components():\n    return [Distance]\n"
    install("bench-distance", {"bench_distance": head + block + hook})
    code, out, err = bench_("check", "bench-distance")
    assert (code, err) == (0, "") and out.count("ok\n") == 6
    code, out, _ = bench_("show", "metric:distance")
    assert "lower is better: mean absolute difference" in out and "made from clean_maps, attacked_maps" in out


def test_the_logger_adds_a_row_for_every_new_record(install, bench_, tmp_path, monkeypatch):
    install("acme", {"bench_csv": printed("bench_csv.py", "python")}, {"csv": "bench_csv"})
    path = tmp_path / "records.csv"
    words = ["run", "--schedule", "quick:epochs=1,limit=32", "--samples", "10", "--device", "cpu"]
    words += ["--metric", "accuracy", "--metric", "kept_rate", "--attack", "uniform_noise"]
    assert bench_(*words, "--seed", "1")[0] == 0 and not path.exists()
    monkeypatch.setenv("BENCH_CSV", str(path))
    for _ in range(2):
        code, _, err = bench_(*words)
        assert (code, err) == (0, "")
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [(row["metric"], row["defense"], row["attack"], row["ball"]) for row in rows] == [
            ("accuracy", "ce", "", ""),
            ("kept_rate", "ce", "uniform_noise", "linf:8/255"),
        ]
    assert bench_(*words, "--eps", "1/255")[0] == 0
    assert len(path.read_text().splitlines()) == 4
