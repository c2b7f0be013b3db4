"""Faulty plugins beside honest components: what these score is what a run without the plugin gives."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

import pytest
from faulty import DATA, HONEST, LIBRARY, NETWORK, OPTIONS, SETTINGS, SOURCE

from bench.engine import catalog as catalogs
from bench.engine.settings import read_settings
from bench.engine.store import Store
from bench.errors import PluginError

pytestmark = [
    *(pytest.mark.campaign, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")),
    pytest.mark.usefixtures("wide_lenet"),  # as other processes have it
]

ASKED = itertools.cycle(["attribute", "call", "train", "forward", "perturb", "recorded", "refuse", "prepare", "build"])
TRIALS = [
    *itertools.product(("attribute", "perturb", "call", "prepare"), NETWORK.items()),
    *((place, fault) for fault in SETTINGS.items() for place in itertools.islice(ASKED, 4)),
    *itertools.product(("call", "train", "prepare"), DATA.items()),
]
APART = [
    *zip(
        itertools.cycle(["attribute", "call", "train", "perturb", "recorded", "refuse"]), LIBRARY.items(), strict=False
    ),
    *itertools.product(("import", "components"), itertools.islice(LIBRARY.items(), 3)),
    *itertools.product(("import", "components"), itertools.islice(SETTINGS.items(), 3)),
    ("attribute", ("the process", "os._exit(0)")),
    ("perturb", ("a signal", "os.kill(os.getpid(), signal.SIGKILL)")),
    ("train", ("a loop", "while True: pass")),
    ("call", ("a loop that resists", "while True:\n    try:\n        time.sleep(1)\n    except BaseException: pass")),
    ("call", ("a thread", "threading.Thread(target=time.sleep, args=(9999,)).start()")),
]
EXTRA = {
    "the process": ["--isolate"],
    "a signal": ["--isolate"],
    "a loop": ["--timeout", "60"],
    "a loop that resists": ["--timeout", "60"],
}


def name(trial):
    return f"{trial[0]}: {trial[1][0]}"


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Values of the honest components, by key, from a run in which no plugin takes part."""
    place = tmp_path_factory.mktemp("clean")
    return values(run_apart(place, HONEST)[1])


def words(options):
    chosen = {**HONEST, "schedule": ["quick:epochs=1,batch=32,limit=64"], **options}
    return [word for option, texts in chosen.items() for text in texts for word in (f"--{option}", text)]


def run_apart(store, options, environment=(), extra=()):
    command = [sys.executable, "-m", "bench.cli", "run", *words(options), "--no-reference", "--device", "cpu", "--json"]
    done = subprocess.run(
        [*command, "--store", str(store), *extra],
        capture_output=True,
        text=True,
        env={**os.environ, **dict(environment)},
        timeout=400,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else [], done.stderr


def values(records):
    return {record["key"]: (record["value"], record["value_kept"], record["ci95"]) for record in records}


@pytest.mark.parametrize("trial", TRIALS, ids=name)
def test_a_fault_in_one_process(trial, clean, install, tmp_path, tiny_run, monkeypatch):
    place, (_, code) = trial
    install("acme", {"acme_faulty": SOURCE})
    store, before = Store(tmp_path / "store", lambda text: None), read_settings()
    options = {**HONEST, **OPTIONS[place], "schedule": ["quick:epochs=1,batch=32,limit=64"]}
    catalog = catalogs.load()
    monkeypatch.setenv("FAULT_PLACE", place)
    monkeypatch.setenv("FAULT_CODE", code)
    found = clean
    try:
        outcome = tiny_run(catalog, reference=False, into=store, **options)
        found = values(json.loads(record.line()) for record in outcome.records.values())
    except PluginError:  # as a refusal is not asked in vain, it stops the run before anything is computed
        assert place == "refuse"
    finally:
        monkeypatch.delenv("FAULT_PLACE")
    assert read_settings() == before
    again = tiny_run(catalog, reference=False, into=store, **{**HONEST, "schedule": options["schedule"]})
    later = values(json.loads(record.line()) for record in again.records.values())
    assert later == clean and {key: found[key] for key in clean} == clean


@pytest.mark.parametrize("trial", APART, ids=name)
def test_a_fault_in_a_process_of_its_own(trial, clean, install, tmp_path):
    place, (_, code) = trial
    install("acme", {"acme_faulty": SOURCE})
    path = os.pathsep.join([str(tmp_path / "site-acme"), *filter(None, sys.path)])
    environment = {"FAULT_PLACE": place, "FAULT_CODE": code, "PYTHONPATH": path}
    extra = EXTRA.get(trial[1][0], [])
    status, records, errors = run_apart(tmp_path / "store", OPTIONS[place], environment, extra)
    found = values(records)
    assert all(found[key] == clean[key] for key in clean if key in found)
    whole = set(clean) <= set(found)
    assert status or whole, errors
    status, records, errors = run_apart(tmp_path / "store", {}, {"PYTHONPATH": path, "FAULT_PLACE": ""})
    assert status == 0 and values(records) == clean, errors
