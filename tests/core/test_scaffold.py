"""A scaffold of every kind: generated, installed, kept to its own tests, and seen in a row."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tomllib

import pytest
from marks import mostly_slow

from bench.components.kinds import KINDS
from bench.engine import catalog as catalogs
from bench.testing.contracts import CONTRACTS
from bench.testing.scaffold import class_name, scaffold

METRIC = {"schedule": "accuracy", "dataset": "accuracy", "model": "accuracy", "defense": "accuracy"}


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A scaffold of every kind, each an installed distribution, as folders by kind."""
    into = tmp_path_factory.mktemp("plugins")
    catalog = catalogs.load()
    folders = {}
    for kind in KINDS:
        scaffold(catalog, kind, f"own_{kind}", into)
        folders[kind] = into / f"bench-own_{kind}"
        project = tomllib.loads((folders[kind] / "pyproject.toml").read_text())["project"]
        info = folders[kind] / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        lines = [f"{name} = {module}\n" for name, module in project["entry-points"]["bench"].items()]
        (info / "entry_points.txt").write_text("[bench]\n" + "".join(lines))
    return folders


@pytest.fixture
def catalog(generated, monkeypatch):
    for folder in generated.values():
        monkeypatch.syspath_prepend(str(folder))
    yield catalogs.load()
    for kind in generated:
        sys.modules.pop(f"bench_own_{kind}", None)


@pytest.mark.slow
def test_the_tests_of_every_scaffold_pass(generated):
    path = os.pathsep.join([*map(str, generated.values()), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *map(str, generated.values())],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    contracts = sum(len(CONTRACTS[kind]) for kind in KINDS)
    assert f"{contracts} passed" in done.stdout


@pytest.mark.parametrize("kind", mostly_slow(KINDS, "explainer", "defense"))
def test_a_scaffold_gives_a_row(catalog, tiny_run, kind):
    name = f"own_{kind}"
    text = f"{name}:epochs=1,limit=64" if kind == "schedule" else name
    metric = METRIC.get(kind, "topk_overlap")
    outcome = tiny_run(catalog, **{"metric": [metric], "attack": ["topk:k=5,steps=20"], kind: [text]})
    assert not outcome.failures
    (record,) = [r for r in outcome.records.values() if text in (r.metric, r.axes.get(kind))]
    assert record.value is not None and not record.flags
    assert record.provenance["plugins"][f"{kind} {name}"] == f"bench-own_{kind} 0.1.0"


def test_a_scaffold_says_how_to_install_test_and_run_it(generated):
    for kind, folder in generated.items():
        text = (folder / "README.md").read_text()
        for line in (
            "pip install -e '.[test]'",
            "pytest",
            f"bench check {kind}:own_{kind}",
            f"bench run --{kind} own_{kind}",
        ):
            assert f"\n{line}\n" in text
        source = (folder / f"bench_own_{kind}.py").read_text()
        assert "$" not in source + text and len(source.splitlines()) < 60
        assert "bench.param(" in source or kind == "schedule"


BAD = [
    (["new", "explaner", "corner"], "no kind called 'explaner'; did you mean 'explainer'?"),
    (
        ["new", "explainer", "Corner-Map"],
        "'Corner-Map' is not a valid name: use lower-case letters, digits and _, starting with a letter, such as "
        "corner_map",
    ),
    (
        ["new", "explainer", "3"],
        "'3' is not a valid name: use lower-case letters, digits and _, starting with a letter, such as my_explainer",
    ),
    (["new", "explainer", "../x"], "'../x' is not a valid name"),
    (
        ["new", "explainer", "gradient"],
        "explainer gradient is already installed, by robust-explanation-bench; choose another name",
    ),
    (["new", "explainer", "attacks"], "a module called bench_attacks is already installed; choose another name"),
    (["new", "explainer", "here"], "bench-here already exists; choose another name, or another folder with --into"),
    (
        ["new", "explainer", "corner", "--into", "file"],
        "bench-corner cannot be written (Not a directory); choose another folder with --into",
    ),
    (["new", "explainer"], "Missing argument 'NAME'"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_what_cannot_be_scaffolded_is_one_line(bench_, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench-here").mkdir()
    (tmp_path / "file").write_text("")
    code, out, err = bench_(*words)
    assert code == (3 if "--into" in words else 2) and out == ""
    assert err.startswith("bench: ") and err.count("\n") == 1 and message in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bench-here", "file"]


def test_new_prints_what_it_wrote(bench_, tmp_path):
    into = tmp_path / "a" / "b"
    code, out, err = bench_("new", "attack", "one_step", "--into", str(into))
    folder = into / "bench-one_step"
    written = [folder / f for f in ("pyproject.toml", "README.md", "bench_one_step.py", "tests/test_one_step.py")]
    assert (code, err) == (0, "") and out.splitlines() == [str(path) for path in written]
    assert all(path.is_file() for path in written) and "class OneStep(bench.Attack)" in written[2].read_text()


def test_a_name_of_another_kind_can_be_taken(bench_, tmp_path):
    assert bench_("new", "attack", "gradient", "--into", str(tmp_path))[0] == 0


@pytest.mark.parametrize(
    ("name", "expected"), [("l1_distance", "L1Distance"), ("none", "NoneMetric"), ("tensor", "Tensor"), ("a__b_", "AB")]
)
def test_a_class_has_a_name_that_python_takes(name, expected):
    assert class_name("metric", name) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tensor", "none", "literal", "dataclass"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_a_module_or_python_has_too_works(tmp_path, monkeypatch, kind, name):
    scaffold(catalogs.load(), kind, name, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / f"bench-{name}"))
    try:
        (cls,) = importlib.import_module(f"bench_{name}").bench_components()
        assert issubclass(cls, KINDS[kind]) and str(cls()) == name
    finally:
        sys.modules.pop(f"bench_{name}", None)
