"""Fixtures that tests share: a store of their own, fake distributions, tiny runs, and the command line."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# Processes of tests side by side share the cores. Before torch is imported, also for the processes that tests start.
if count := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // int(count)))

# Before `datasets` is imported, so that its cache goes with the tests and it never asks the hub.
os.environ.update(HF_HOME=tempfile.mkdtemp(prefix="hf-"), HF_HUB_OFFLINE="1")

from bench_models import lenet

from bench.cli.commands import main
from bench.engine import catalog as catalogs, progress, runner
from bench.engine.cells import list_cells
from bench.engine.selection import select
from bench.engine.store import Store

# A slow machine is no fault of what is tested.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

numbers = itertools.count()
progress.EVERY = 3600.0  # so that a slow machine prints nothing more
WIDE = lenet.CHANNELS, lenet.UNITS
lenet.CHANNELS, lenet.UNITS = (8, 16), 32  # runs of tests spend most of their time in its convolutions

TINY = {"schedule": ["quick:epochs=1,batch=32,limit=64"], "attack": ["topk:k=5,steps=2"], "samples": ["10"]}


# What is imported and collected stays to the end. Python need not look through it for garbage again and again, which
# took a seventh of the time.
def pytest_collection():
    gc.disable()


def pytest_runtestloop():
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def own_store(request, tmp_path_factory, monkeypatch):
    # Most tests ask for no folder, and to make one and remove it takes longer than many of them.
    asked = "tmp_path" in request.fixturenames
    folder = request.getfixturevalue("tmp_path") if asked else tmp_path_factory.getbasetemp() / f"test{next(numbers)}"
    monkeypatch.setenv("BENCH_STORE", str(folder / "store"))
    monkeypatch.delenv("BENCH_DATA_DIR", raising=False)


@pytest.fixture
def wide_lenet(monkeypatch):
    """LeNet as it is for users, for numbers that are known."""
    monkeypatch.setattr(lenet, "CHANNELS", WIDE[0])
    monkeypatch.setattr(lenet, "UNITS", WIDE[1])


@pytest.fixture
def warnings_told():
    return []


@pytest.fixture
def store(tmp_path, warnings_told):
    return Store(tmp_path / "store", warnings_told.append)


@pytest.fixture(scope="session")
def catalog():
    return catalogs.load()


@pytest.fixture
def tiny_run(store):
    """Run tiny cells: `tiny_run(defense=["ce"], metric=["accuracy"])` returns the Outcome."""

    def run(catalog=None, reference=True, into=store, **options):
        catalog = catalog or catalogs.load()
        selection = select(catalog, {**TINY, **options}, reference)
        cells = list_cells(catalog, selection.cases, selection.metrics)
        return runner.run_cells(cells, catalog, into, runner.choose_device("cpu"))

    return run


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution on the path as an installer would: `install("acme", {"acme_plugin": source})`."""
    placed = []

    def put(distribution, modules, entry_points=None):
        site = tmp_path / f"site-{distribution}"
        info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        points = entry_points or {name: name for name in modules}
        (info / "entry_points.txt").write_text("[bench]\n" + "".join(f"{n} = {m}\n" for n, m in points.items()))
        for name, source in modules.items():
            (site / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(site))
        placed.extend(modules)

    yield put
    for name in placed:
        sys.modules.pop(name, None)


@pytest.fixture
def bench_(capsys):
    """Run a command: `bench_("run", "--metric", "accuracy")` returns its exit code, stdout and stderr."""

    def run(*words):
        with pytest.raises(SystemExit) as done:
            main(list(words))
        out, err = capsys.readouterr()
        return done.value.code or 0, out, err

    return run


@pytest.fixture
def tiny_case(catalog):
    return select(catalog, {**TINY, "defense": ["ce"]}).cases[0]
