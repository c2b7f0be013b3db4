"""What on_gpu.sh makes of results, and what it asks for."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bench.boards import read_protocol
from bench.engine import installed, select

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))
gpu_results, gpu_metadata, gpu_trainings = map(
    importlib.import_module, ("gpu_results", "gpu_metadata", "gpu_trainings")
)


def test_metadata_make_plugins_known_where_nothing_is_installed(tmp_path):
    gpu_metadata.write_metadata(tmp_path)
    code = (
        "import sys; sys.path = [p for p in sys.path if 'site-packages' not in p]\n"
        "from importlib.metadata import entry_points, version\n"
        "print(sorted(point.value for point in entry_points(group='bench')), version('robust-explanation-bench'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env=environment)
    packages = sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").exists())
    assert (done.stdout.strip(), done.stderr) == (f"{packages} 0.1.0", "")


def fill(store, sizes):
    for name, size in sizes.items():
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes(os.urandom(size))


def test_results_fit_and_unpack_to_what_they_were(tmp_path, monkeypatch):
    """Ten times smaller than in earnest; records and weights go before checkpoints, attributions stay."""
    monkeypatch.setattr(gpu_results, "PART", 1_500_000)
    monkeypatch.setattr(gpu_results, "TOTAL", 5_600_000)
    store, out = tmp_path / "work" / "store", tmp_path / "out"
    out.mkdir()
    wanted = {f"trained/{i}/value.safetensors": 450_000 for i in range(5)} | {"record/1/record.json": 7}
    fill(
        store, {"partial/9/train/optimiser.safetensors": 900_000, **wanted, "clean_attributions/1/value.safetensors": 9}
    )
    fill(store, {f"partial/{i}/train/optimiser.safetensors": 900_000 for i in range(5)} | {"partial/9/lock": 9})
    (store / "record/1/record.json").write_text(json.dumps({"axes": {}, "metric": "accuracy", "value": None}))
    gpu_results.pack(tmp_path / "work", out)
    packed = list(out.iterdir())
    assert len(packed) <= 8 and sum(file.stat().st_size for file in packed) < 6_000_000
    assert all(file.stat().st_size <= 1_510_720 for file in packed)  # a tar ends on a multiple of 10,240 bytes
    again = tmp_path / "again"
    for file in out.glob("store-*.tar"):
        with tarfile.open(file) as tar:
            for member in filter(tarfile.TarInfo.isfile, tar):
                (again / member.name).parent.mkdir(parents=True, exist_ok=True)
                (again / member.name).write_bytes(tar.extractfile(member).read())
    unpacked = {str(file.relative_to(again)) for file in again.rglob("*") if file.is_file()}
    assert unpacked >= set(wanted) and not any("lock" in name or "attributions" in name for name in unpacked)
    assert all((again / name).read_bytes() == (store / name).read_bytes() for name in unpacked)
    left = (tmp_path / "work" / "left-out.txt").read_text().split()
    assert len(left) + len(unpacked) == 12 and all(name.startswith("partial/") for name in left)


def test_a_report_of_unfinished_stages(tmp_path):
    work, key = tmp_path, "0123456789abcdef"
    lines = [
        {"kind": "attack", "name": "a", "contract": "run", "seconds": 1, "problem": ""},
        {"kind": "attack", "name": "b", "contract": "stays_in_the_ball", "seconds": 1, "problem": "on | off"},
        {"kind": "attack", "name": "c", "contract": "run", "seconds": 0, "problem": "x is not installed"},
    ]
    (work / "smoke.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"kind": "att')
    costs = [("ce", 2.0, 100), ("hessian", 9.0, 400)]
    (work / "costs.jsonl").write_text(
        "".join(
            json.dumps({"table": "training", "of": "lenet", "piece": piece, "ms": ms, "peak_mib": mib}) + "\n"
            for piece, ms, mib in costs
        )
    )
    (work / "trainings.json").write_text(json.dumps({"ce": key, "ssr": "other"}))
    (work / "trainings.log").write_text("left out: --defense none: no defense called 'none'\nTraceback\n")
    place = work / "store" / "partial" / key / "train"
    place.mkdir(parents=True)
    (place / "progress.json").write_text(json.dumps({"epoch": 7, "phase": {"seconds": 61.2}}))
    gpu_results.write_report(work, tmp_path)
    rows = re.sub(r" *\| *", "|", (tmp_path / "report.md").read_text()).splitlines()
    assert "|attack|contracts|1|1|0|" in rows and "|attack|runs|1|0|1|" in rows
    assert not any("attack c" in row or "Traceback" in row for row in rows)
    assert "- left out: --defense none: no defense called 'none'" in rows
    assert "|attack b|stays_in_the_ball|on \\|off|" in rows
    assert "|lenet|hessian|9.0|4.50|4.25|400|4.00|4.36|" in rows
    assert f"|ce|unfinished, in train|7|61|{key}|" in rows and "|ssr|not begun|||other|" in rows


@pytest.mark.parametrize("name", ["gpu_jobs.txt", "gpu_jobs_tiny.txt"])
def test_each_job_trains_a_network_of_its_own(name):
    lines = (ROOT / "benchmarks" / name).read_text().splitlines()
    jobs = [gpu_trainings.parse(line) for line in lines if not line.startswith("#")]
    protocol, found = read_protocol(gpu_trainings.BOARD), []
    for job in jobs:
        networks = {
            (str(case.defense), case.seed, str(case.schedule))
            for given in gpu_trainings.rounds()
            for case in select(installed(), given | job, False, protocol).cases
        }
        assert len(networks) == 1
        found += networks
    assert len(set(found)) == len(jobs) > 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--what", "1"], "no option --what; --help lists them"),
        (["--seconds"], "--seconds needs a value"),
        (["--smoke", "1.5"], "--smoke is '1.5', must be a whole number"),
        (["--jobs", "nowhere"], "--jobs is 'nowhere', which cannot be read; give a file with a line of options"),
        (
            ["--jobs", "jobs.txt"],
            "a line of --jobs is '--defense', must be options of bench run with a value each, such as",
        ),
        (
            ["--data-dir", "nowhere"],
            "'nowhere' has no cifar10/train-*.parquet and test-*.parquet; name their folder with",
        ),
    ],
)
def test_wrong_options_are_named_in_one_line(words, message, tmp_path):
    (tmp_path / "jobs.txt").write_text("# of a board\n\n--defense ssr --seed 1\n--defense\n")
    done = subprocess.run(
        ["bash", ROOT / "benchmarks" / "on_gpu.sh", *words], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2 and done.stderr.startswith(f"on_gpu.sh: {message}") and done.stderr.count("\n") == 1
