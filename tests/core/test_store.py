"""A stored value is whole or not there."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import bench
from bench.engine.store import Lock, Store, is_abandoned

FILES = {"value.safetensors": b"numbers", "spec.json": b"text"}


def test_what_is_written_is_read(store):
    assert store.read("maps", "k", ("spec.json",)) is None
    store.write("maps", "k", FILES)
    assert store.has("maps", "k")
    assert store.read("maps", "k", tuple(FILES)) == FILES
    assert not list((store.root / "partial").iterdir())


def test_the_first_of_two_writers_stays(store):
    store.write("maps", "k", FILES)
    store.write("maps", "k", {"spec.json": b"later"})
    assert store.read("maps", "k", ("spec.json",)) == {"spec.json": b"text"}
    assert not list((store.root / "partial").iterdir())


@pytest.mark.parametrize("harm", ["changed", "cut", "missing", "sums", "list"])
def test_a_damaged_value_is_set_aside_and_said(store, warnings_told, harm):
    store.write("maps", "k", FILES)
    file = store.folder("maps", "k") / ("checksums.json" if harm in ("sums", "list") else "value.safetensors")
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes({"changed": b"numberz", "cut": b"numb", "sums": b"{", "list": b"[]"}[harm])
    assert store.read("maps", "k", tuple(FILES)) is None
    assert not store.has("maps", "k")
    assert len(list((store.root / "damaged").iterdir())) == 1
    assert warnings_told[0].startswith("stored maps k is damaged (")
    assert "computed again" in warnings_told[0]
    store.write("maps", "k", FILES)
    assert store.read("maps", "k", tuple(FILES)) == FILES


def test_a_store_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "store", print)
    with pytest.raises(
        bench.StoreError, match=r"store .*file/store cannot be written \(Not a directory\); choose another"
    ):
        store.check_writable()
    assert bench.StoreError.exit_code == 3


@pytest.fixture
def nobody(tmp_path):
    """Inside, the process has no special rights, so that modes of files count; root's are given back."""
    if os.geteuid():
        yield
        return
    closed = {p: p.stat().st_mode for p in (tmp_path, *tmp_path.parents) if not p.stat().st_mode & 0o001}
    for place, mode in closed.items():
        place.chmod(mode | 0o055)
    os.seteuid(65534)
    yield
    os.seteuid(0)
    for place, mode in closed.items():
        place.chmod(mode)


@pytest.fixture
def read_only(store):
    store.write("maps", "k", FILES)
    places = [store.root, *store.root.rglob("*")]
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)
    yield store
    for place in places:
        place.chmod(0o755)


def test_a_read_only_store_can_be_read_and_not_written(read_only, nobody):
    assert read_only.read("maps", "k", tuple(FILES)) == FILES
    with pytest.raises(bench.StoreError, match=r"cannot be written \(Permission denied\); choose another with --store"):
        read_only.write("maps", "other", FILES)


@pytest.fixture
def closed(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o000)
    yield Store(tmp_path / "closed" / "store", print)
    (tmp_path / "closed").chmod(0o755)


def test_a_store_in_a_closed_folder_cannot_be_read(closed, nobody):
    with pytest.raises(bench.StoreError, match=r"cannot be read \(Permission denied\); choose another with --store"):
        closed.read("maps", "k", ("spec.json",))


def test_a_full_store_says_so_and_keeps_what_is_there(store):
    store.write("maps", "k", FILES)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(bench.StoreError, match=r"cannot be written .*; free some space, or choose another"):
            store.write("maps", "large", {"value.safetensors": bytes(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not store.has("maps", "large")
    assert store.read("maps", "k", tuple(FILES)) == FILES
    assert not list((store.root / "partial").iterdir())


def test_a_checkpoint_replaces_the_one_before(store):
    with store.unfinished("k") as unfinished:
        assert unfinished.load("train", ("a",)) is None
        unfinished.save("train", {"a": b"1"})
        unfinished.save("train", {"a": b"2"})
        assert unfinished.load("train", ("a",)) == {"a": b"2"}
    with store.unfinished("k") as unfinished:
        assert unfinished.load("train", ("a",)) == {"a": b"2"}
        unfinished.discard()
    assert not (store.root / "partial" / "k").exists()


@pytest.mark.parametrize("moment", ["new", "old"])
def test_a_checkpoint_survives_a_kill_between_two_renames(store, moment):
    with store.unfinished("k") as unfinished:
        unfinished.save("train", {"a": b"1"})
        (unfinished.place / "train").rename(unfinished.place / f"train.{moment}")
        assert unfinished.load("train", ("a",)) == {"a": b"1"}


def test_a_damaged_checkpoint_is_not_used(store, warnings_told):
    with store.unfinished("k") as unfinished:
        unfinished.save("train", {"a": b"1"})
        (unfinished.place / "train" / "a").write_bytes(b"2")
        assert unfinished.load("train", ("a",)) is None
    assert "is damaged and ignored" in warnings_told[0]


def test_a_lock_is_waited_for(tmp_path, warnings_told):
    (tmp_path / "k").mkdir()
    path = tmp_path / "k" / "lock"
    # A live process of another number holds it.
    holder = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    path.write_text(json.dumps({"host": socket.gethostname(), "pid": holder.pid}))
    taken = []
    waiter = threading.Thread(target=lambda: (Lock(path, warnings_told.append).take(), taken.append(1)))
    waiter.start()
    time.sleep(0.3)
    assert not taken and warnings_told == ["waiting for another process that computes k"]
    holder.kill()
    holder.wait()
    holder.stdin.close()
    waiter.join(5)
    assert taken


@pytest.mark.parametrize(("host", "age", "gone"), [("elsewhere", 10_000, True), ("elsewhere", 1, False)])
def test_another_machines_lock_counts_by_its_heartbeat(tmp_path, host, age, gone):
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": host, "pid": 1}))
    os.utime(path, (time.time() - age, time.time() - age))
    assert is_abandoned(path.read_text(), age) is gone
    assert Lock(path, print)._remove_abandoned() is gone and path.exists() is not gone


@pytest.mark.parametrize(
    ("text", "age", "gone"),
    [
        ("", 1, False),
        ("", 10, True),
        ("garbage", 10, True),
        ("5", 10, True),
        (json.dumps({"host": socket.gethostname(), "pid": os.getpid()}), 1, False),
        (json.dumps({"host": socket.gethostname(), "pid": os.getpid()}), 10_000, True),  # the number is another's now
    ],
    ids=range(6),
)
def test_a_lock_that_nobody_holds_is_no_lock(text, age, gone):
    assert is_abandoned(text, age) is gone


def test_a_lock_beats_while_it_is_held_and_is_released_by_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.engine.store.STALE", 0.2)
    first, second = Lock(tmp_path / "lock", print), Lock(tmp_path / "lock", print)
    first.take()
    os.utime(tmp_path / "lock", (0, 0))
    time.sleep(0.3)
    assert time.time() - (tmp_path / "lock").stat().st_mtime < 5
    second.release()
    assert (tmp_path / "lock").exists()
    first.release()
    assert not (tmp_path / "lock").exists()


def test_a_lock_taken_between_look_and_removal_is_given_back(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    path.write_text("garbage")
    os.utime(path, (0, 0))
    other = Lock(path, print)
    replace = os.replace

    def overtaken(source, target):
        if source == path:
            path.write_text(other.mine)
        replace(source, target)

    monkeypatch.setattr(os, "replace", overtaken)
    assert Lock(path, print)._remove_abandoned()
    assert path.read_text() == other.mine and [p.name for p in tmp_path.iterdir()] == ["lock"]
