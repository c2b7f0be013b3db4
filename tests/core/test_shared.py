"""What a faulty component touches: it fails by name, and others score what they score without it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from bench_models import lenet
from faulty import HONEST, OPTIONS, SOURCE
from marks import mostly_slow

from bench import noise
from bench.engine import catalog as catalogs
from bench.engine.cells import list_cells
from bench.engine.executors import Processes
from bench.engine.library import Library
from bench.engine.runner import run_cells
from bench.engine.selection import select
from bench.engine.settings import SETTINGS, find_changes, put_settings, read_settings
from bench.engine.shared import Shared
from bench.errors import BadComponent, EnvironmentProblem, PluginError

SCHEDULE = {"schedule": ["quick:epochs=1,batch=32,limit=64"]}


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Values of honest components, by key, in a process that knows no other plugin."""
    words = [w for option, texts in {**HONEST, **SCHEDULE}.items() for text in texts for w in (f"--{option}", text)]
    as_here = f"from bench_models import lenet; lenet.CHANNELS, lenet.UNITS = {lenet.CHANNELS}, {lenet.UNITS}"
    done = subprocess.run(
        [
            *(sys.executable, "-c", f"{as_here}; from bench.cli import main; main()", "run", *words),
            *("--no-reference", "--device", "cpu", "--json"),
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "BENCH_STORE": str(tmp_path_factory.mktemp("clean"))},
    )
    return {record["key"]: (record["value"], record["value_kept"]) for record in json.loads(done.stdout)}


@pytest.fixture
def strike(install, tiny_run, monkeypatch):
    """Run with a fault in a place: `strike(place, code)` returns the outcome."""

    def run(place, code, **options):
        install("acme", {"acme_faulty": SOURCE})
        catalog = catalogs.load()
        monkeypatch.setenv("FAULT_PLACE", place)
        monkeypatch.setenv("FAULT_CODE", code)
        found = tiny_run(catalog, reference=False, **{**HONEST, **OPTIONS[place], **SCHEDULE, **options})
        monkeypatch.delenv("FAULT_PLACE")
        return found

    return run


def values(outcome):
    return {key: (record.value, record.value_kept) for key, record in outcome.records.items()}


FAULTS = [
    ("attribute", "next(network.parameters()).data.add_(1)", "explainer struck .* changed the tensor .*weight"),
    ("attribute", "network.register_forward_hook(lambda m, i, o: -o)", "_forward_hooks of the network"),
    (
        "perturb",
        "old = network.forward; network.forward = lambda x: -old(x)",
        "attack struck_attack .*forward of the n",
    ),
    ("call", "for m in network.modules(): m.beta = 9.0", "metric struck_metric .*beta"),
    ("prepare", "network.network = torch.nn.Flatten()", "explainer struck_learned"),
    ("call", "data.images.numpy()[:] = 0.5", "metric struck_metric .* changed the data that it was given"),
    ("train", "data.labels[:] = 0", "defense struck_defense .* changed the data that it was given"),
    ("train", "torch.set_default_dtype(torch.float64)", "torch's default dtype"),
    ("forward", "torch.set_autocast_enabled('cpu', True)", "model struck_model.*torch's autocast on cpu"),
    ("build", "torch.set_default_device('meta')", "model struck_model.*torch's default device"),
    ("attribute", "sys.exit(0)", "explainer struck .*ended by SystemExit"),
    ("call", "raise GeneratorExit", "metric struck_metric .*ended by GeneratorExit"),
    ("perturb", "raise asyncio.CancelledError", "attack struck_attack .*ended by CancelledError"),
]


@pytest.mark.parametrize(
    ("place", "code", "message"), mostly_slow(FAULTS, "train", "perturb"), ids=[f"{p} {c[:20]}" for p, c, _ in FAULTS]
)
def test_a_fault_is_named_and_reaches_nobody_else(strike, tiny_run, clean, place, code, message):
    before = read_settings()
    outcome = strike(place, code)
    assert read_settings() == before
    struck = [str(error) for error in outcome.failures.values()]
    assert struck and outcome.exit_code == 1
    assert any(re.search(message, text) for text in struck), struck
    assert {key: values(outcome)[key] for key in clean} == clean
    again = tiny_run(reference=False, **{**HONEST, **SCHEDULE})
    assert values(again) == clean and not again.failures


def test_noise_that_a_component_leaves_open_is_no_fault(strike, clean):
    outcome = strike("attribute", "noise.rows(5, 'mine', range(6)).__enter__()")
    assert not outcome.failures and {key: values(outcome)[key] for key in clean} == clean


def test_what_a_component_changed_before_it_asks_for_anothers_network(strike, clean):
    """The teacher is trained under the settings of the run, whatever its pupil has set."""
    code = "torch.set_default_dtype(torch.float64); fit.trained_by(bench.component('defense', 'ce'))"
    outcome = strike("train", code)
    assert {key: values(outcome)[key] for key in clean} == clean


def test_a_teacher_that_its_pupil_damages(strike, clean):
    code = (
        "ce = bench.component('defense', 'ce')\n"
        "next(fit.trained_by(ce).parameters()).data.mul_(3)\n"
        "try:\n    fit.trained_by(bench.component('defense', 'l2'))\nexcept Exception: pass"
    )
    outcome = strike("train", code)
    assert outcome.failures and {key: values(outcome)[key] for key in clean} == clean


@pytest.mark.parametrize(
    ("owner", "name"),
    mostly_slow([(F, "softplus"), (torch, "topk"), (torch.Tensor, "argmax"), (noise, "uniform")], torch.Tensor),
)
def test_a_replaced_function_stops_the_run(strike, clean, tiny_run, monkeypatch, owner, name):
    monkeypatch.setattr(owner, name, getattr(owner, name))  # undone afterwards, whatever it is then
    where = {F: "F", torch: "torch", torch.Tensor: "torch.Tensor", noise: "noise"}[owner]
    outcome = strike("attribute", f"{where}.{name} = lambda *a, **k: a[0]")
    texts = {str(error) for error in outcome.failures.values()}
    assert outcome.exit_code == EnvironmentProblem.exit_code
    assert any("cannot be put back; finished results are kept" in text and name in text for text in texts), texts
    assert len(outcome.records) + len(outcome.failures) == len({cell.key for cell in outcome.cells})
    assert all(clean[key] == value for key, value in values(outcome).items() if key in clean)
    monkeypatch.undo()
    assert values(tiny_run(reference=False, **{**HONEST, **SCHEDULE})) == clean


@pytest.mark.parametrize(
    ("place", "code", "message"),
    [
        ("import", "torch.set_default_dtype(torch.float64)", "torch's default dtype"),
        ("components", "torch.use_deterministic_algorithms(True)", "torch's deterministic algorithms"),
        ("import", "F.softplus = lambda x: x", r"torch.nn.functional.softplus"),
        ("import", "import bench_explainers.gradient as g; g.Gradient.differentiable = 0", "Gradient.differentiable"),
    ],
)
def test_a_plugin_that_changes_things_as_it_is_imported(install, monkeypatch, place, code, message):
    import bench_explainers.gradient as own

    monkeypatch.setattr(F, "softplus", F.softplus)
    monkeypatch.setattr(own.Gradient, "differentiable", own.Gradient.differentiable)
    before = read_settings()
    monkeypatch.setenv("FAULT_PLACE", place)
    monkeypatch.setenv("FAULT_CODE", code)
    install("acme", {"acme_faulty": SOURCE})
    (broken,) = catalogs.load().broken
    assert broken.distribution == "acme" and message in broken.problem and "--without acme" in broken.problem
    assert read_settings() == before
    monkeypatch.undo()


def test_a_refusal_that_changes_things(strike):
    with pytest.raises(PluginError, match="bench_refuse, changed torch's default dtype, which all components share"):
        strike("refuse", "torch.set_default_dtype(torch.float64)")


def test_a_hook_that_changes_things_is_told(strike, clean, warnings_told):
    assert values(strike("recorded", "torch.set_default_dtype(torch.float64)")) == clean
    assert "the hook bench_recorded changed torch's default dtype" in warnings_told[0]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_reads_and_is_put_back(setting):
    setting.put(setting.read())
    assert setting.value() == setting.read()


def test_settings_that_are_changed_are_found_and_put_back():
    before = read_settings()
    torch.set_default_dtype(torch.float64)
    torch.autograd.set_detect_anomaly(True)
    torch.device("meta").__enter__()
    os.environ["BENCH_DATA_DIR"] = "/"
    assert find_changes(before) == [
        "torch's default device",
        "torch's modes of functions",
        "torch's default dtype",
        "torch's anomaly detection",
        "the environment's variables",
    ]
    assert put_settings(before) == [] and read_settings() == before
    assert torch.ones(1).device.type == "cpu" and "BENCH_DATA_DIR" not in os.environ


def test_what_torch_wraps_itself_is_no_change():
    """Its optimisers and its compiler do so when they are first used."""
    library = Library()
    network = torch.nn.Linear(3, 3)
    torch.optim.AdamW(network.parameters())
    torch.compile(network, backend="eager")(torch.ones(3))
    assert library.find_changes() == []


def test_a_call_gives_what_its_function_gives():
    shared = Shared(Library())
    assert shared.call("me", lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        shared.call("me", lambda: 1 / 0)
    with pytest.raises(KeyboardInterrupt):
        shared.call("me", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(BadComponent, match=r"me ended by SystemExit: 4.*; raise an Exception instead"):
        shared.call("me", lambda: sys.exit(4))


@pytest.mark.parametrize(
    ("code", "timeout", "why"),
    mostly_slow(
        [
            ("os._exit(0)", None, "its process ended with exit code 0"),
            ("os.kill(os.getpid(), signal.SIGKILL)", None, "its process ended by SIGKILL"),
            ("while True:\n try: time.sleep(9)\n except BaseException: pass", 15.0, "it took longer than 15 s"),
        ],
        "os._exit(0)",
    ),
)
def test_a_process_of_its_own(install, store, wide_lenet, monkeypatch, tiny_run, code, timeout, why):
    honest = values(tiny_run(reference=False, **{**HONEST, **SCHEDULE}))  # so that it takes no time
    install("acme", {"acme_faulty": SOURCE})
    monkeypatch.setenv("FAULT_PLACE", "call")
    monkeypatch.setenv("FAULT_CODE", code)
    catalog = catalogs.load()
    selection = select(catalog, {**HONEST, **OPTIONS["call"], **SCHEDULE}, reference=False)
    cells = list_cells(catalog, selection.cases, selection.metrics)
    here = torch.device("cpu")
    with Processes(catalog, store, here, timeout=timeout, retries=0) as processes:
        outcome = run_cells(cells, catalog, store, here, processes)
    assert [why in str(error) for error in outcome.failures.values()] == [True] and outcome.exit_code == 1
    assert values(outcome) == honest
