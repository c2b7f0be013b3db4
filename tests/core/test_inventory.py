"""What a store holds, and what is cleared away."""

from __future__ import annotations

import json
import os
import socket
import time

import bench

TINY = ["--schedule", "quick:epochs=1,limit=32", "--attack", "topk:k=5,steps=1", "--samples", "10", "--device", "cpu"]


def test_ls_counts_what_is_there(bench_, tmp_path):
    code, out, _ = bench_("store", "ls")
    assert code == 0 and out.splitlines()[-1].split() == ["total", "0", "0.0", "MB"]
    bench_("run", "--metric", "accuracy", "--metric", "kept_rate", *TINY)
    code, out, err = bench_("store", "ls")
    rows = {line.split()[0]: line.split()[1] for line in out.splitlines()[4:]}
    assert (code, err) == (0, "") and rows == {"attack_run": "1", "record": "2", "trained": "1", "total": "4"}
    assert out.startswith(f"{tmp_path / 'store'}\n")


def test_prune_removes_what_no_run_can_use_and_nothing_else(bench_, tmp_path, monkeypatch):
    words = ["run", "--metric", "accuracy", "--metric", "kept_rate", *TINY]
    first = bench_(*words)
    assert bench_("store", "prune") == (0, "0 removed, 0.0 MB\n", "")
    store = tmp_path / "store"
    (store / "damaged" / "trained-x").mkdir(parents=True)
    left, fresh = (store / "partial" / f"{'0' * 16}-{n}0000000" for n in "12")
    checkpoint, busy = (store / "partial" / name for name in ("1" * 16, "2" * 16))
    for place in (left, fresh, checkpoint, busy):
        place.mkdir(parents=True)
    os.utime(left, (0, 0))
    (busy / "lock").write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
    code, out, _ = bench_("store", "prune", "--dry-run")
    assert code == 0 and out.splitlines()[-1] == "2 would be removed, 0.0 MB" and left.exists()
    code, out, _ = bench_("store", "prune")
    assert [line.split("  ")[-1] for line in out.splitlines()[:-1]] == ["damaged", "left by an interrupted write"]
    assert not left.exists() and fresh.exists() and checkpoint.exists()
    trial = store / "partial" / ("3" * 32)
    trial.write_text("trial")
    os.utime(trial, (0, 0))
    assert bench_("store", "prune")[1].startswith("partial/333") and not trial.exists()
    bench_("store", "prune", "--unfinished")
    assert not checkpoint.exists() and busy.exists()
    assert bench_(*words) == first
    now = time.time()
    with monkeypatch.context() as fast:
        fast.setattr(time, "time", lambda: now + 10**6)
        assert bench_("store", "prune")[1].startswith("0 removed") and fresh.exists()
    monkeypatch.setattr(type(bench.component("attack", "topk")), "version", 2)
    code, out, _ = bench_("store", "prune")
    assert code == 0 and out.splitlines()[-1].startswith("2 removed") and "attack topk 1 is now 2" in out
    assert {p.name for p in store.iterdir() if any(p.iterdir())} == {"partial", "record", "trained"}


def test_what_belongs_to_a_plugin_that_is_not_installed_stays(bench_, tmp_path):
    bench_("run", "--metric", "accuracy", *TINY)
    (record,) = (tmp_path / "store" / "record").iterdir()
    text = (record / "record.json").read_text().replace("metric/accuracy@1", "metric/strange@9")
    (record / "record.json").write_text(text)
    assert bench_("store", "prune")[1] == "0 removed, 0.0 MB\n"


def test_a_store_copied_elsewhere_serves_a_run(bench_, tmp_path, monkeypatch):
    import shutil

    words = ["run", "--metric", "accuracy", "--metric", "topk_overlap", *TINY]
    first = bench_(*words)
    shutil.copytree(tmp_path / "store", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "store")
    monkeypatch.setattr("bench.engine.executors.compute_record", None)
    assert bench_(*words, "--store", str(tmp_path / "elsewhere")) == first
