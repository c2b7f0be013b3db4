"""What the docs print works as printed, and what they name is there."""

from __future__ import annotations

import csv
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
import torch
import yaml

from bench.axes import OPTIONS
from bench.cli.commands import main
from bench.components import KINDS
from bench.engine import catalog as catalogs
from bench.errors import UnknownName
from bench.testing import checks

ROOT = Path(__file__).parents[2]
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *sorted((ROOT / "docs").rglob("*.md"))]
EXPLAINER, DEFENSE, PLUGINS = (
    (ROOT / "docs" / page).read_text()
    for page in ("tutorials/explainer.md", "tutorials/defense.md", "reference/plugins.md")
)
# What stands for a reader's own, and for components that tutorials write.
OWN = {"MINE", "NAME", "DEFENSE", "calm", "corner"}
FILES = ("dog.jpg", "PICTURE.jpg", "FILE")
FOLDERS = ("DATA", "FOLDER", "FRESH", "PICTURES", "BEFORE")


def printed(text, file, language):
    """The first block of a language after the first mention of a file."""
    match = re.search(rf"`{re.escape(file)}`.*?```{language}\n(.*?)```", text, re.DOTALL)
    assert match, f"no {file} is printed"
    return match[1]


def commands(text):
    """The command lines of a page's shell blocks that call `bench`, as words."""
    for block in re.findall(r"^ *```sh\n(.*?)```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            match = re.search(r"(?:^|&& |-- |srun (?:-\S+ |\d+ )*)(bench .*)", line)
            if match:
                yield shlex.split(match[1].partition(" > ")[0], comments=True)[1:]


def parse(words):
    """The innermost command of a line and its parameters; raises what click raises for a line that is wrong."""
    command, name = main, "bench"
    while isinstance(command, click.Group):
        name, *words = words
        assert name in command.commands, f"no command called {name}"
        command = command.commands[name]
    return command, command.make_context(name, list(words)).params


def read_names(catalog, words):
    """Read every component that a line names, but those that stand for a reader's own."""
    _, params = parse(words)
    for option, texts in params.items():
        kind = OPTIONS[option].kind if option in OPTIONS else None
        for text in texts if kind else ():
            if text.partition(":")[0] not in {*OWN, "all"}:
                catalog.read(kind, text)
    for text in [params.get("component"), params.get("name")]:
        kind, _, rest = (text or "").partition(":")
        if kind in KINDS and rest.partition(":")[0] not in OWN:
            catalog.read(kind, rest) if ":" in rest else catalog.find(kind, rest)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with what readers have at hand: boards, pictures, data, weights."""
    for name in FOLDERS:
        (tmp_path / name).mkdir()
    for name in (*FILES, "resnet20.th", "resnet34.pth"):
        (tmp_path / name).write_bytes(b"")
    for name in ("leaderboards", "bench", "canaries"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_of_a_page_parses_and_names_what_is_there(path, catalog, place):
    for words in commands(path.read_text()):
        try:
            read_names(catalog, words)
        except Exception as error:
            raise AssertionError(f"bench {shlex.join(words)}: {error}") from error


def test_a_wrong_command_would_be_seen(catalog):
    (words,) = commands("```sh\npip install . && bench run --defense l2_cosf  # a comment\n```")
    assert words == ["run", "--defense", "l2_cosf"]
    for wrong, error in (
        (words, UnknownName),
        (["run", "--defence", "ce"], click.NoSuchOption),
        (["frob"], AssertionError),
        (["show", "defense:l2_cosf"], UnknownName),
    ):
        with pytest.raises(error):
            read_names(catalog, wrong)


def test_the_site_has_every_page_once():
    def leaves(entry):
        inner = entry.values() if isinstance(entry, dict) else entry
        return [entry] if isinstance(entry, str) else [leaf for each in inner for leaf in leaves(each)]

    listed = leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    made = [f"reference/{name}.md" for name in (*(f"{kind}s" for kind in KINDS), "evidence", "commands")]
    written = [path.relative_to(ROOT / "docs").as_posix() for path in PAGES if path.is_relative_to(ROOT / "docs")]
    assert sorted(listed) == sorted([*made, *written])


@pytest.fixture
def corner(install):
    """The plugin of the walk-through, installed by what its pyproject.toml says."""
    project = tomllib.loads(printed(EXPLAINER, "pyproject.toml", "toml"))
    (module,) = project["tool"]["setuptools"]["py-modules"]
    source = printed(EXPLAINER, f"{module}.py", "python")
    install(project["project"]["name"], {module: source}, project["project"]["entry-points"]["bench"])


def test_the_readme_names_what_is_installed(catalog):
    table = (ROOT / "README.md").read_text().partition("## What is included")[2].partition("\n\n`bench list`")[0]
    installed = {name for kind in catalog.components for name in catalog.of(kind)}
    assert set(re.findall(r"`(\w+)`", table)) <= installed


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_links_to_what_is_there(path):
    made = {
        ROOT / "docs" / "reference" / f"{name}.md" for name in (*(f"{kind}s" for kind in KINDS), "evidence", "commands")
    }
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        found = (path.parent / target).resolve()
        assert found.exists() or found in made, target
    for path in re.findall(r"`((?:bench|docs|plugins|benchmarks|\.ci)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path


def test_the_walk_is_under_forty_lines():
    assert (
        len(
            (
                printed(EXPLAINER, "pyproject.toml", "toml") + printed(EXPLAINER, "bench_corner.py", "python")
            ).splitlines()
        )
        < 40
    )


def test_its_plugin_is_listed_shown_and_keeps_the_contracts(corner, bench_):
    code, out, err = bench_("list", "explainer")
    assert (code, err) == (0, "")
    assert re.search(
        r"^explainer +corner +bench-corner 1\.0 +Ranks pixels by their distance to the corner: a control$", out, re.M
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
    assert code == 0 and out.startswith("1 record published as bench-corner\n")
    assert "authors, licence, selection, selected_on are empty; fill in what is true" in err
    assert "axis samples is '10', but the board has 64" in err
    (row,) = (line for line in (board / "README.md").read_text().splitlines() if "| corner" in line)
    assert "0.950 [0.95, 0.95]" in row


def test_its_metric_keeps_the_contracts(install, bench_):
    block = PLUGINS[PLUGINS.index("@dataclass(frozen=True)\nclass Distance") :].partition("```")[0]
    head = "from dataclasses import dataclass\nimport torch\nimport bench\n\n"
    hook = "\n@bench.hookimpl\ndef bench_components():\n    return [Distance]\n"
    install("bench-distance", {"bench_distance": head + block + hook})
    code, out, err = bench_("check", "bench-distance")
    assert (code, err) == (0, "") and out.count("ok\n") == 6
    code, out, _ = bench_("show", "metric:distance")
    assert "lower is better: mean absolute difference" in out and "made from clean_maps, attacked_maps" in out


def test_the_logger_adds_a_row_for_every_new_record(install, bench_, tmp_path, monkeypatch):
    install("acme", {"bench_csv": printed(PLUGINS, "bench_csv.py", "python")}, {"csv": "bench_csv"})
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


def test_the_picture_says_what_a_network_predicts(catalog):
    spec = importlib.util.spec_from_file_location("panels", ROOT / "docs" / "panels.py")
    panels = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(panels)
    assert panels.say(torch.tensor([0.0, 2.0]), ("a", "b")) == "b, 88%"  # e^2 / (1 + e^2)
    assert set(panels.ROWS) <= set(catalog.of("defense"))
