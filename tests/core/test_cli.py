"""The command line, as its user meets it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

import pytest
from marks import mostly_slow

from bench.cli.commands import main
from bench.cli.interrupts import heed_interrupts
from bench.components.kinds import KINDS
from bench.engine.store import Store

TINY = ["--schedule", "quick:epochs=1,limit=32", "--attack", "topk:k=5,steps=1", "--samples", "10", "--device", "cpu"]


@dataclass(frozen=True)
class Finished:
    """A store in which commands have run, and what the first of them printed."""

    words: list[str]
    store: str
    code: int
    out: str


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """For commands that only read: accuracy and topk_overlap of `l2` and `ce`, kept_rate and train_time of `ce`."""
    store = str(tmp_path_factory.mktemp("finished"))
    words = ["run", "--defense", "l2", "--metric", "accuracy", "--metric", "topk_overlap", *TINY, "--store", store]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as done:
        main(words)
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit):
        main(["run", "--metric", "kept_rate", "--metric", "train_time", *TINY, "--store", store])
    return Finished(words, store, done.value.code, out.getvalue())


BAD = [
    (
        ["frob"],
        2,
        "no command called 'frob'; known: check, explain, figure, leaderboard, list, new, plan, run, select, show, "
        "store, zoo",
    ),
    (["runn"], 2, "no command called 'runn'; did you mean 'run'?"),
    (["run", "--devise", "cpu"], 2, "No such option '--devise'"),
    (["run", "--device", "tpu"], 2, "'--device': 'tpu' is not one of 'auto', 'cpu', 'cuda'"),
    (["run", "--defense", "l2_cosf"], 2, "no defense called 'l2_cosf'; did you mean 'l2_cosd'?"),
    (["run", "--attack", "gradient"], 2, "no attack called 'gradient'; gradient is a component of kind explainer"),
    (["run", "--defense", "l2_cosd:cosin=1"], 2, "defense l2_cosd has no parameter 'cosin'; did you mean 'cosine'?"),
    (["run", "--attack", "topk:k=many"], 2, "attack topk: k is 'many', must be a whole number of at least 1"),
    (["run", "--attack", "topk:k=0"], 2, "attack topk: k is 0, must be a whole number of at least 1"),
    (["run", "--defense", "l2:eps=2"], 2, "defense l2: eps is 2, must be a fraction such as 8/255 from 0 to 1"),
    (
        ["run", "--eps", "8"],
        2,
        "eps 8 is impossible: budgets are in pixel units of [0, 1]; write a fraction such as 8/255 "
        "(a budget in units of the normalised image, times the std of its pixels)",
    ),
    (["run", "--eps=-1/255"], 2, "eps -1/255 is impossible"),
    (["run", "--eps", "1e99999999"], 2, "eps '1e99999999' is not a number; write a fraction such as 8/255"),
    (["run", "--eps", "1e40", "--norm", "l2"], 2, "is impossible: budgets are in pixel units"),
    (["run", "--attack", "topk:k=1" + "0" * 400], 2, "must be a whole number of at least 1"),
    (["run", "--defense", "cosd:eps=1e5000"], 2, "cosd: eps is '1e5000', must be a fraction such as 8/255 from 0 to 1"),
    (["run", "--attack", "topk:k=1,k=2"], 2, "'topk:k=1,k=2' gives k twice"),
    (
        ["run", "--schedule", "quick:decay=(-5)"],
        2,
        "schedule quick: decay is (-5,), must be a tuple of a whole number of at least 1",
    ),
    (["run", "--data-dir", "nowhere"], 3, "data folder nowhere does not exist; check --data-dir and BENCH_DATA_DIR"),
    (["run", "--eps", "much"], 2, "eps 'much' is not a number; write a fraction such as 8/255"),
    (["run", "--norm", "l3"], 2, "norm 'l3': choose linf, l2, l0, rotation, translation or colour"),
    (["run", "--samples", "0"], 2, "samples 0: at least one image is needed"),
    (["run", "--samples", "few"], 2, "samples 'few' is not a whole number"),
    (["run", "--seed", "1,x"], 2, "seed 'x' is not a whole number"),
    (["run", "--split", "dev"], 2, "split 'dev': choose test or validation or train"),
    (["run", "--without", "acme"], 2, "--without acme: no such plugin"),
    (["list", "explaner"], 2, "no kind called 'explaner'; did you mean 'explainer'?"),
    (["show", "topk"], 2, "'topk' names no kind; write attack:topk"),
    (["show", "metric"], 2, "'metric' is a kind; bench list metric shows its components"),
    (["show", "nothing"], 2, "'nothing' names no kind; write KIND:nothing"),
    (["show", "attack:topkk"], 2, "no attack called 'topkk'; did you mean 'topk' or 'topk_l2'?"),
    (["check", "explaner"], 2, "no kind, distribution or entry point called 'explaner'; did you mean 'explainer'"),
    (["check", "explaner:gradient"], 2, "no kind called 'explaner'; did you mean 'explainer'?"),
    (["check", "explainer:gradeint"], 2, "no explainer called 'gradeint'; did you mean 'gradient' or"),
    (["check", "explainer:"], 2, "no explainer called ''; known: aggregation, attention_rollout, "),
    (["check", "topk"], 2, "'topk' names no kind; write attack:topk"),
    (["check", "topk:k=5"], 2, "'topk:k=5' names no kind; write attack:topk:k=5"),
    (["check", "attack:topk:k=0"], 2, "attack topk: k is 0, must be a whole number of at least 1"),
    (["check", "attack:topk", "--without", "acme"], 2, "--without acme: no such plugin"),
    (["run", "--board", ""], 2, "Invalid value for '--board': '' names nothing; write a name, or leave it out"),
    (["run", "--store", ""], 2, "Invalid value for '--store': '' names nothing; write a name, or leave it out"),
    (["plan", "--data-dir", ""], 2, "Invalid value for '--data-dir': '' names nothing"),
    (["explain", ""], 2, "Invalid value for 'IMAGE...': '' names nothing"),
    (["leaderboard", "build", ""], 2, "'[FOLDER]...': '' names nothing"),
    (["leaderboard", "validate", "--base", ""], 2, "Invalid value for '--base': '' names nothing"),
    (["list", ""], 2, "'' names nothing; write a name, or leave it out"),
    (["run", "--defense", "weights:path=/"], 2, "defense weights: path is /, a folder; name a file in it"),
    (["run", "--defense", 'weights:path="a\\u0000b"'], 2, "weights: path is '\"a\\\\u0000b\"', must be a path"),
    (["run", "--model", 'timm:arch="\\ud800"'], 2, "model timm: arch is '\"\\\\ud800\"', must be a text"),
    (
        ["run", "--defense", "atex:teacher=" + "(atex:teacher=" * 1000],
        2,
        "has parentheses more than 20 deep; write fewer",
    ),
    (["run", "--defense", "x" * 100_000], 2, "; known: "),
    (["run", "--defense", "a\x1b]0;b\x07"], 2, "no defense called "),
]


@pytest.mark.parametrize(
    ("words", "code", "message"), BAD, ids=lambda x: " ".join(x)[:80] if isinstance(x, list) else ""
)
def test_bad_input_is_one_line_and_an_exit_code(bench_, words, code, message):
    found, out, err = bench_(*words)
    assert (found, out) == (code, "")
    assert err.startswith("bench: ") and err.count("\n") == 1 and message in err
    assert err[:-1].isprintable() and len(err) < 2100


FULL = "bench: stdout cannot be written (No space left on device); free some space, or send it to another place\n"


@pytest.mark.parametrize(
    "words", mostly_slow(["list attack", "--help", "run --help", "--version"], "--help", "run --help", "--version")
)
def test_a_full_disk_behind_stdout_is_told_in_a_line(words):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bench.cli", *words.split()], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (3, FULL)


def test_a_full_disk_is_told_where_no_plugin_is_loaded(bench_, monkeypatch):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        code, _, err = bench_("list", "evidence")
    assert (code, err) == (3, FULL)


def test_a_reader_that_has_seen_enough_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "bench.cli", "--help"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_name_that_stdout_cannot_show_is_printed_all_the_same(bench_, tmp_path):
    code, out, _ = bench_("store", "ls", "--store", str(tmp_path / "a\udcffb"))
    assert code == 0 and r"a\udcffb" in out


@pytest.mark.parametrize("group", [[], ["store"], ["zoo"], ["leaderboard"]], ids=str)
def test_no_summary_of_a_command_is_cut(bench_, group):
    _, out, _ = bench_(*group, "--help")
    assert "..." not in out.partition("\nCommands:\n")[2]


def test_bench_alone_shows_the_help(bench_):
    code, out, err = bench_()
    assert (code, out) == (2, "") and err.startswith("Usage: ") and "\n  run " in err


def test_without_the_reference_row(bench_, finished):
    code, out, _ = bench_(
        "run", "--no-reference", "--defense", "l2", "--metric", "accuracy", *TINY, "--store", finished.store
    )
    assert code == 0 and [line.split()[0] for line in out.splitlines()[4:5]] == ["l2"] and "\nce " not in out


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="there is a GPU")
def test_a_device_that_is_not_there(bench_):
    code, _, err = bench_("run", "--device", "cuda")
    assert code == 3 and err == "bench: device cuda: torch finds no GPU here; choose the device cpu or auto\n"


def test_a_store_that_cannot_be_written_is_found_before_any_work(bench_, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = bench_("run", *TINY, "--store", str(tmp_path / "file" / "store"))
    assert code == 3 and "cannot be written (Not a directory); choose another with --store or BENCH_STORE" in err


def test_run_prints_a_table(finished):
    assert finished.code == 0
    first, _, head, _, *rows = finished.out.splitlines()
    assert "dataset shapes" in first and "10" in first
    assert head.split() == ["defense", "attack", "accuracy", "topk_overlap"]
    assert [row.split()[:2] for row in rows[:2]] == [["ce", "topk:k=5,steps=1"], ["l2", "topk:k=5,steps=1"]]


def test_run_prints_a_table_twice_the_same(bench_, finished):
    assert bench_(*finished.words) == (0, finished.out, "")


def test_json_is_an_array_of_records(bench_, finished):
    words = ["run", "--metric", "accuracy", "--metric", "train_time", *TINY, "--store", finished.store]
    code, out, err = bench_(*words, "--json")
    records = json.loads(out)
    assert code == 0 and err == "" and [r["metric"] for r in records] == ["accuracy", "train_time"]
    fields = """
    axes better ci95 command cost flags kept key levels metric n provenance spec undefined unit value value_kept
    """
    assert set(records[0]) >= set(fields.split())


def test_what_a_record_says_reproduces_it(bench_, finished):
    _, out, _ = bench_("run", "--metric", "kept_rate", *TINY, "--json", "--store", finished.store)
    (record,) = json.loads(out)
    code, again, _ = bench_(*record["command"].split()[1:], "--json", "--store", finished.store)
    assert code == 0 and json.loads(again)[0] == record


PLAN = ["plan", "--metric", "accuracy", "--metric", "kept_rate", *TINY]


def test_plan_says_what_is_to_be_computed(bench_):
    code, out, _ = bench_(*PLAN)
    assert code == 0 and out.splitlines()[0] == "0 cells done, 2 to do, 0 refused"
    assert "to compute: 1 x trained, 1 x attack_run" in out and "unknown, since the store has none yet: trained" in out


def test_plan_computes_nothing(bench_, tmp_path):
    bench_(*PLAN)
    assert not (tmp_path / "store").exists()


def test_plan_knows_what_is_done(bench_, finished):
    assert bench_(*PLAN, "--store", finished.store)[1] == "2 cells done, 0 to do, 0 refused\n"


def test_plan_estimates_from_what_is_stored(bench_, finished):
    out = bench_(*PLAN, "--seed", "1", "--store", finished.store)[1]
    assert out.startswith("0 cells done, 2 to do") and "estimated from the store" in out
    assert re.search(r"\nabout \d+ s on one device, and \d\.\d MB of disk, of which [\d,.]+ [MG]B are free, est", out)


def test_plan_does_not_estimate_from_shorter_trainings(bench_, finished):
    longer = [word.replace("epochs=1", "epochs=50") for word in PLAN]
    out = bench_(*longer, "--store", finished.store)[1]
    assert "estimated from the store" not in out and "none yet: trained, attack_run" in out


ALL = """
accuracy adv_insertion aopc attack_passes attack_queries attack_stages attack_time attacked_accuracy
average_sensitivity center_shift certified_pixels class_retrieval complexity cosine cosine_bound crc crc_bound
curvature data_dependence deletion diffroar emd explain_time f_fidelity gaze_overlap hessian_norm infidelity insertion
irof joint_success kept_rate l1_distance l1_norm l2_criterion label_randomization lens local_lipschitz mask_auc
mask_l1 mask_mass mask_overlap max_sensitivity pearson perturbation pointing_game preservation randomization
rank_thickness relevance road rps self_similarity smoothgrad_bound sparsity spearman ssim stability success_rate
topk_mass topk_overlap topk_overlap_bound topk_overlap_elements train_memory train_passes train_time under_attack
"""


@pytest.mark.slow
def test_all_means_every_component_of_a_kind(bench_):
    code, out, _ = bench_("run", "--metric", "all", *TINY)
    assert code == 0
    assert out.splitlines()[2].split() == ["defense", "attack", *ALL.split()]


def test_list_names_components_and_their_plugins(bench_):
    code, out, _ = bench_("list")
    assert code == 0 and "l2_cosd" in out and "robust-explanation-bench" in out


def test_list_of_a_kind(bench_):
    code, out, _ = bench_("list", "attack")
    assert code == 0 and {line.split()[1] for line in out.splitlines()[2:]} >= {"topk", "uniform_noise"}
    lines = out.splitlines()
    assert lines[0].split() == ["kind", "name", "from", "what"]
    assert lines == [line.rstrip() for line in lines]  # a short sentence makes a short line


def test_list_of_evidence(bench_):
    code, out, _ = bench_("list", "evidence")
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in out.splitlines()[2:]}
    assert code == 0 and {"images", "clean_maps", "attacked_maps", "refit"} <= set(lines) and all(lines.values())


def test_show_prints_parameters_and_paper(bench_):
    code, out, _ = bench_("show", "defense:l2_cosd")
    assert code == 0 and out.startswith("defense l2_cosd, version 1, from robust-explanation-bench ")
    assert "4/255" in out and "@inproceedings{joo2023towards" in out and "a number of at least 0" in out


def test_show_prints_the_direction_evidence_and_presets_of_a_metric(bench_):
    code, out, _ = bench_("show", "metric:insertion")
    assert code == 0 and "\nhigher is better: " in out and "\nmade from network, images, " in out
    assert "\npreset insertion:joo2023 is insertion:" in out


@pytest.fixture
def broken(install):
    """A plugin that does not import."""
    install("acme", {"acme_plugin": "import nothing_of_this_name"})


def test_a_broken_plugin_stops_run(bench_, broken):
    code, _, err = bench_("run", *TINY)
    assert code == 2 and "plugin 'acme_plugin' of acme does not import" in err and "--without acme" in err


def test_a_broken_plugin_is_listed(bench_, broken):
    code, out, err = bench_("list")
    assert code == 0 and "gradient" in out
    assert err.startswith("bench: broken: plugin 'acme_plugin' of acme does not import")


def test_a_broken_plugin_can_be_left_out(bench_, broken, finished):
    words = ["run", "--without", "acme", "--metric", "accuracy", *TINY, "--store", finished.store]
    code, out, _ = bench_(*words)
    assert code == 0 and "accuracy" in out


def test_a_failing_cell_is_told_in_one_line_and_the_rest_is_printed(bench_, finished):
    words = ["run", "--metric", "accuracy", "--metric", "topk_overlap:k=2000", *TINY, "--store", finished.store]
    code, out, err = bench_(*words)
    assert code == 1 and "accuracy" in out and err.count("\n") == 1
    assert err.startswith("bench: failed: topk_overlap:k=2000 of dataset shapes, model lenet, defense ce")
    assert err.endswith("topk_overlap: k is 2000, but the maps have 1024 pixels; lower k\n")


CHECKED = """
from dataclasses import dataclass
from pathlib import Path
import torch
import bench

@dataclass(frozen=True)
class Flat(bench.Explainer):
    '''Every pixel alike, or an error of its own.'''
    name = "flat"
    examples = ("", "sharp=true")
    sharp: bool = bench.param(False, "whether it fails")
    def attribute(self, network, images, targets):
        if self.sharp:
            raise KeyError("no such\\nlayer")
        return torch.ones_like(images)

@dataclass(frozen=True)
class Kept(bench.Explainer):
    '''A map from a file.'''
    name = "kept"
    path: Path = bench.param(help="a file")
    def attribute(self, network, images, targets):
        return images

@bench.hookimpl
def bench_components():
    return [Flat, Kept]
"""


def split_columns(out):
    """Component, contract and result of every line."""
    return [[part.strip() for part in line.split("  ") if part.strip()] for line in out.splitlines()]


def test_check_of_a_kind(bench_):
    code, out, err = bench_("check", "schedule")
    lines = split_columns(out)
    assert (code, err) == (0, "") and {line[2] for line in lines} == {"ok"}
    short = "limit=64,epochs=1,batch=16"
    assert {line[0] for line in lines} >= {f"schedule quick:{short}", f"schedule singh2020:{short}"}


def test_check_of_a_component_with_parameters(bench_):
    code, out, _ = bench_("check", "explainer:smoothgrad:samples=2")
    contracts = [
        "reads back from its text",
        "describes itself",
        "returns valid attributions",
        "explains images independently",
        "explains networks of strangers",
        "is differentiable as declared",
    ]
    assert code == 0 and split_columns(out) == [["explainer smoothgrad:samples=2", words, "ok"] for words in contracts]


@pytest.mark.parametrize("name", ["acme", "acme_plugin"])
def test_check_of_a_distribution_tells_what_fails_and_where(bench_, install, name):
    install("acme", {"acme_plugin": CHECKED})
    code, out, _ = bench_("check", name)
    lines = split_columns(out)
    assert code == 1 and len(lines) == 12 and all(len(line) == 3 for line in lines)
    assert [line[2] for line in lines if line[0] == "explainer flat"] == ["ok"] * 6
    wrong = [line[2] for line in lines if line[0] == "explainer flat:sharp=true"]
    assert wrong[:2] == ["ok", "ok"] and set(wrong[2:]) == {"FAILED: KeyError: 'no such\\nlayer', acme_plugin.py:15"}


def test_check_of_a_distribution_tells_what_it_skips_and_how_many_fail(bench_, install):
    install("acme", {"acme_plugin": CHECKED})
    skipped, failed = bench_("check", "acme")[2].splitlines()
    assert skipped.startswith("bench: skipped: explainer kept has no examples to check and requires path; give")
    assert failed == "bench: 4 of 12 checks failed"


@pytest.fixture
def needy(install):
    """A plugin whose component has a required parameter and no examples."""
    install("acme", {"acme_plugin": CHECKED.replace("[Flat, Kept]", "[Kept]")})


@pytest.mark.parametrize("name", ["explainer:kept", "acme"])
def test_check_of_a_component_that_needs_a_parameter_says_so(bench_, needy, name):
    code, out, err = bench_("check", name)
    assert (code, out) == (2, "") and err == (
        "bench: explainer kept has no examples to check and requires path; give values, as in explainer:kept:path=...\n"
    )


def test_check_of_a_component_with_the_parameter_that_it_needs(bench_, needy):
    _, out, _ = bench_("check", "explainer:kept:path=x")
    assert split_columns(out)[0] == [
        "explainer kept:path=x",
        "reads back from its text",
        "FAILED: x cannot be read (No such file or directory); check the path",
    ]


def test_check_of_a_plugin_that_does_not_import(bench_, broken):
    code, out, err = bench_("check", "acme")
    (line,) = split_columns(out)
    assert code == 1 and line[:2] == ["plugin acme_plugin", "can be used"] and err == "bench: 1 of 1 checks failed\n"
    assert line[2].startswith("FAILED: plugin 'acme_plugin' of acme does not import (ModuleNotFoundError: No module")


def test_check_of_a_component_beside_a_plugin_that_does_not_import(bench_, broken):
    code, _, err = bench_("check", "explainer:random_map")
    assert code == 0 and err.startswith("bench: broken: plugin 'acme_plugin' of acme does not import")


def test_check_of_a_plugin_of_hooks_alone(bench_, install):
    install("acme", {"acme_plugin": "import bench\n\n@bench.hookimpl\ndef bench_recorded(record): pass\n"})
    assert bench_("check", "acme") == (0, "", "bench: acme provides no components, so there is nothing to check\n")


def test_check_without_a_name_checks_everything(bench_, install, monkeypatch):
    install("acme", {"acme_plugin": CHECKED})
    monkeypatch.setattr("bench.testing.Check.failure", lambda check: "")  # the contracts themselves run elsewhere
    code, out, err = bench_("check")
    assert code == 0 and {line[0].split()[0] for line in split_columns(out)} == set(KINDS)
    assert ["explainer flat", "reads back from its text", "ok"] in split_columns(out)
    assert "skipped: explainer kept" in err


LOUD = """
import atexit, os, subprocess, sys, threading, time
from dataclasses import dataclass
import bench

def shout(where):
    print(f"loud: {where}\\n", end="")  # one write, which the thread cannot part
    sys.__stdout__.write(f"loud: {where}, past sys.stdout\\n")
    os.write(1, f"loud: {where}, by number\\n".encode())
    subprocess.run(["echo", f"loud: {where}, from a process"], check=True)

def linger():
    while True:
        print("loud: thread\\n", end="")
        time.sleep(0.01)

shout("import")
atexit.register(shout, "exit")
threading.Thread(target=linger).start()

@dataclass(frozen=True)
class Loud(bench.Explainer):
    '''Ranks pixels by themselves, and prints.'''
    name = "loud"
    def find_problem(self):
        shout("parameters")
    def refuse(self, case):
        shout("refusal")
    def attribute(self, network, images, targets):
        shout("attribution")
        return images

@bench.hookimpl
def bench_components():
    shout("components")
    return [Loud]

@bench.hookimpl
def bench_recorded(record):
    shout("record")
"""
PLACES = ("import", "parameters", "refusal", "attribution", "components", "record", "exit")


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_a_plugin_prints_never_reaches_stdout(install, tmp_path, unbuffered):
    install("acme", {"acme_plugin": LOUD})
    places = os.pathsep.join([str(tmp_path / "site-acme"), *filter(None, sys.path)])
    words = ["run", *TINY, "--explainer", "loud", "--metric", "topk_mass", "--attack", "sign_noise", "--no-reference"]
    for command, read in ([*words, "--json"], json.loads), (["list", "explainer"], lambda out: "loud: " not in out):
        done = subprocess.run(
            [sys.executable, "-m", "bench.cli", *command],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": places, "PYTHONUNBUFFERED": unbuffered},
        )
        assert done.returncode == 0 and read(done.stdout), done.stderr
        for place in PLACES if command[0] == "run" else ("import", "components", "exit"):
            for how in ("", ", past sys.stdout", ", by number", ", from a process"):
                assert f"loud: {place}{how}\n" in done.stderr


def test_stdout_is_back_after_a_command(capfd):
    before = sys.stdout
    with pytest.raises(SystemExit):
        main(["list", "attack"])
    assert sys.stdout is before
    os.write(1, b"after\n")
    out, err = capfd.readouterr()
    assert "pgd" in out and out.endswith("after\n") and not err


def test_an_interrupt_is_not_lost_in_a_callback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "unraisablehook", None)
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    class Thing:
        pass

    def swallow(_):
        seen.append("swallowed")
        raise KeyboardInterrupt

    try:
        heed_interrupts()
        thing = Thing()
        watched = weakref.ref(thing, swallow)
        del thing  # Python ignores what the callback raises
        assert watched() is None and seen == ["swallowed"]
        with pytest.raises(KeyboardInterrupt):
            end = time.monotonic() + 10
            while time.monotonic() < end:
                pass
        assert capsys.readouterr().err == ""
    finally:
        signal.signal(signal.SIGTERM, before)


# What an interruption loses, seen on real processes.

LONG = ["--schedule", "quick:epochs=6,limit=256", "--attack", "topk:k=5,steps=60", "--samples", "16", "--device", "cpu"]
LONG += ["--metric", "topk_overlap", "--metric", "kept_rate", "--metric", "accuracy"]


def start(store, words=LONG):
    words = [sys.executable, "-m", "bench.cli", "run", *words, "--json", "--store", str(store)]
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
        # Tests in the background of a shell inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def read_scores(text):
    return {r["metric"]: (r["value"], r["ci95"], r["kept"]) for r in json.loads(text)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    done = start(tmp_path_factory.mktemp("undisturbed"))
    out, err = done.communicate(timeout=200)
    assert done.returncode == 0, err
    return read_scores(out)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
@pytest.mark.parametrize("stage", ["training", "attack"])
def test_an_interrupted_run_goes_on_and_ends_the_same(tmp_path, undisturbed, stage, number):
    running = start(tmp_path)
    started = time.monotonic()
    while running.poll() is None and time.monotonic() - started < 100:
        # A checkpoint tells of training, finished clean maps of the attack that follows them.
        if list(tmp_path.glob("partial/*/train" if stage == "training" else "clean_attributions/*")):
            time.sleep(0.2)
            running.send_signal(number)
            break
        time.sleep(0.02)
    _, err = running.communicate(timeout=100)
    if number == signal.SIGINT:
        assert running.returncode == 130
        assert err == "bench: interrupted; finished results are kept, and the same command continues from there\n"
    else:
        assert running.returncode == -signal.SIGKILL
    assert not list(tmp_path.glob("attack_run/*")) and bool(list(tmp_path.glob("trained/*"))) == (stage == "attack")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("trained/*/value.safetensors")}
    again = start(tmp_path)
    out, err = again.communicate(timeout=200)
    assert again.returncode == 0, err
    assert read_scores(out) == undisturbed
    assert all(p.stat().st_mtime_ns == then for p, then in before.items())
    assert not list(Store(tmp_path, print).list_folders("partial"))


@pytest.mark.slow
@pytest.mark.parametrize("defense", ["norm_at:scheme=free,replays=2", "atex:samples=2"])
def test_a_defense_that_was_killed_ends_with_the_same_weights(tmp_path, defense):
    words = ["--defense", defense, "--no-reference", "--metric", "accuracy", "--samples", "10", "--device", "cpu"]
    words += ["--schedule", "quick:epochs=5,batch=16,limit=64"]

    whole = start(tmp_path / "whole", words)
    whole.communicate(timeout=200)
    assert whole.returncode == 0
    cut = start(tmp_path / "cut", words)
    started = time.monotonic()
    own = (tmp_path / "cut").glob
    # The student's own checkpoint is the newest: a teacher is finished before it begins.
    while time.monotonic() - started < 100 and not (
        list(own("partial/*/train")) and ("atex" not in defense or list(own("trained/*")))
    ):
        time.sleep(0.01)
    cut.send_signal(signal.SIGKILL)
    cut.communicate(timeout=100)
    again = start(tmp_path / "cut", words)
    again.communicate(timeout=200)
    assert again.returncode == 0
    weights = [
        {p.parent.name: p.read_bytes() for p in (tmp_path / store).glob("trained/*/value.safetensors")}
        for store in ("whole", "cut")
    ]
    assert weights[0] == weights[1] and len(weights[0]) == (2 if "atex" in defense else 1)
