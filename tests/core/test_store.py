"""A stored value is whole or not there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import bench
from bench.engine import cleanup
from bench.engine.locks import Busy, Lock, Watch, is_owner_gone, read_lock
from bench.engine.store import Store


def spec_of(made, seed=0):
    """A spec, and the key that it hashes to."""
    text = json.dumps([made, {made: 1}, {"seed": str(seed)}])
    return text, hashlib.sha256(text.encode()).hexdigest()[:16]


SPEC, K = spec_of("maps")
FILES = {"value.safetensors": b"numbers", "spec.json": SPEC.encode()}


def test_what_is_written_is_read(store):
    assert store.read("maps", K, ("spec.json",)) is None
    store.write("maps", K, FILES)
    assert store.has("maps", K)
    assert store.read("maps", K, tuple(FILES)) == FILES
    assert not list((store.root / "partial").iterdir())


def test_the_first_of_two_writers_stays(store):
    store.write("maps", K, FILES)
    store.write("maps", K, {"spec.json": b"later"})
    assert store.read("maps", K, ("spec.json",)) == {"spec.json": SPEC.encode()}
    assert not list((store.root / "partial").iterdir())


@pytest.mark.parametrize("harm", ["changed", "cut", "missing", "sums", "list"])
def test_a_damaged_value_is_set_aside_and_said(store, warnings_told, harm):
    store.write("maps", K, FILES)
    file = store.folder("maps", K) / ("checksums.json" if harm in ("sums", "list") else "value.safetensors")
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes({"changed": b"numberz", "cut": b"numb", "sums": b"{", "list": b"[]"}[harm])
    assert store.read("maps", K, tuple(FILES)) is None
    assert not store.has("maps", K)
    assert len(list((store.root / "damaged").iterdir())) == 1
    assert warnings_told[0].startswith(f"stored maps {K} is damaged (")
    assert "computed again" in warnings_told[0]
    store.write("maps", K, FILES)
    assert store.read("maps", K, tuple(FILES)) == FILES


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
    store.write("maps", K, FILES)
    places = [store.root, *store.root.rglob("*")]
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)
    yield store
    for place in places:
        place.chmod(0o755)


def test_a_read_only_store_can_be_read_and_not_written(read_only, nobody):
    assert read_only.read("maps", K, tuple(FILES)) == FILES
    with pytest.raises(bench.StoreError, match=r"cannot be written \(Permission denied\); choose another with --store"):
        read_only.write("maps", "other", FILES)


@pytest.fixture
def closed(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o000)
    yield Store(tmp_path / "closed" / "store", print)
    (tmp_path / "closed").chmod(0o755)


def test_a_store_in_a_closed_folder_cannot_be_read(closed, nobody):
    with pytest.raises(bench.StoreError, match=r"cannot be read \(Permission denied\); choose another with --store"):
        closed.read("maps", K, ("spec.json",))


def test_a_full_store_says_so_and_keeps_what_is_there(store):
    store.write("maps", K, FILES)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(bench.StoreError, match=r"cannot be written .*; free some space, or choose another"):
            store.write("maps", "large", {"value.safetensors": bytes(10_000)})
        with pytest.raises(bench.StoreError, match="free some space"), store.unfinished("k") as unfinished:
            unfinished.save("train", {"a": b"1"})
            unfinished.save("train", {"a": bytes(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not store.has("maps", "large")
    assert store.read("maps", K, tuple(FILES)) == FILES
    assert [place.name for place in (store.root / "partial").iterdir()] == ["k"]
    assert [place.name for place in (store.root / "partial" / "k").iterdir()] == ["train"]


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


def test_a_value_that_another_process_computes_is_waited_for(store):
    lock = store.root / "partial" / K / "lock"
    lock.parent.mkdir(parents=True)
    # A live process of another number holds it.
    holder = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lock.write_text(json.dumps({"host": socket.gethostname(), "pid": holder.pid}))
    with pytest.raises(Busy) as busy, store.unfinished(K):
        pass
    assert busy.value.key == K and store.is_held(K)
    ended = []
    waiter = threading.Thread(target=lambda: ended.append(store.wait([K])))
    waiter.start()
    time.sleep(0.2)
    assert not ended
    holder.kill()
    holder.wait()
    holder.stdin.close()
    waiter.join(5)
    assert ended and not store.is_held(K)
    with store.unfinished(K):
        assert json.loads(lock.read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("skew", [-10_000, 0, 10_000], ids="{:+d}s".format)
def test_another_machines_lock_is_judged_by_this_ones_clock_alone(tmp_path, monkeypatch, skew):
    """Whatever the time of its file says: a clock that is 10,000 s late or early takes no living lock."""
    monkeypatch.setattr("bench.engine.locks.STALE", 0.3)
    path, renewed = tmp_path / "lock", time.time() + skew
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    lock = Lock(path, Watch())
    for beat in range(4):
        os.utime(path, (renewed + beat, renewed + beat))
        assert not lock.take() and lock.watch.is_held(path)
        time.sleep(0.15)
    assert not lock.take()
    time.sleep(0.35)
    assert lock.take() and read_lock(path)[0] == lock.mine
    lock.release()
    assert not path.exists()


HERE = {"host": socket.gethostname(), "pid": os.getpid()}


@pytest.mark.parametrize(
    ("text", "unrenewed", "gone"),
    [
        ("", 1, False),
        ("", 10, True),
        ("garbage", 10, True),
        ("5", 10, True),
        (json.dumps(HERE), 1, False),
        (json.dumps(HERE), 10_000, True),  # the number is another's now
        (json.dumps({**HERE, "pid": 10**9}), 1, True),
        (json.dumps({**HERE, "pid": 10**9, "space": "another container's"}), 100, False),
        (json.dumps({"host": "elsewhere", "pid": 1}), 100, False),
        (json.dumps({"host": "elsewhere", "pid": 1}), 130, True),
    ],
    ids=range(10),
)
def test_a_lock_that_nobody_holds_is_no_lock(text, unrenewed, gone):
    assert is_owner_gone(text, unrenewed) is gone


def test_a_lock_beats_while_it_is_held_and_is_released_by_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.engine.locks.STALE", 0.2)
    first, second = Lock(tmp_path / "lock", Watch()), Lock(tmp_path / "lock", Watch())
    assert first.take()
    os.utime(tmp_path / "lock", (0, 0))
    time.sleep(0.3)
    assert time.time() - (tmp_path / "lock").stat().st_mtime < 5
    second.release()
    assert (tmp_path / "lock").exists()
    first.release()
    assert not (tmp_path / "lock").exists()


def test_a_lock_that_cannot_be_read_for_now_is_not_lost(tmp_path, monkeypatch):
    lock = Lock(tmp_path / "lock", Watch())
    assert lock.take()

    def fail(number):
        def read(path, limit):
            raise OSError(number, "no answer")

        return read

    monkeypatch.setattr("bench.engine.locks.read_file", fail(errno.ESTALE))
    assert not lock.is_lost()
    monkeypatch.setattr("bench.engine.locks.read_file", fail(errno.ENOENT))
    assert lock.is_lost()
    monkeypatch.undo()
    lock.release()
    assert not lock.is_lost()


def test_a_lock_taken_between_look_and_removal_is_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.engine.locks.TORN", -1.0)
    path = tmp_path / "lock"
    path.write_text("garbage")
    other = Lock(path, Watch())
    replace = os.replace

    def overtaken(source, target):
        if source == path:
            path.write_text(json.dumps(HERE))
        replace(source, target)

    monkeypatch.setattr(os, "replace", overtaken)
    assert not other.take()
    assert path.read_text() == json.dumps(HERE) and [p.name for p in tmp_path.iterdir()] == ["lock"]


# What lies under a key is of that key.

OTHER_SPEC, OTHER = spec_of("maps", seed=1)
SCORES_SPEC, SCORES = spec_of("scores")


def fill(store):
    """Two values of one name and one of another; returns the folder of the first."""
    for name, text, key in (("maps", SPEC, K), ("maps", OTHER_SPEC, OTHER), ("scores", SCORES_SPEC, SCORES)):
        store.write(name, key, {"value.safetensors": key.encode(), "spec.json": text.encode()})
    return store.folder("maps", K)


def swap(one, other):
    one.rename(one.with_name("between"))
    other.rename(one)
    one.with_name("between").rename(other)


def copy_over(source, target):
    shutil.rmtree(target)
    shutil.copytree(source, target)


def link_over(source, target):
    shutil.rmtree(target)
    target.symlink_to(source)


REPLACED = {
    "swapped with another": lambda store, folder: swap(folder, store.folder("maps", OTHER)),
    "swapped with another name": lambda store, folder: swap(folder, store.folder("scores", SCORES)),
    "another copied over it": lambda store, folder: copy_over(store.folder("maps", OTHER), folder),
    "a link to another": lambda store, folder: link_over(store.folder("maps", OTHER), folder),
    "a link to another name": lambda store, folder: link_over(store.folder("scores", SCORES), folder),
}


@pytest.mark.parametrize("replace", REPLACED.values(), ids=list(REPLACED))
def test_a_value_of_another_key_is_found_and_set_aside(store, warnings_told, replace):
    folder = fill(store)
    replace(store, folder)
    assert store.look("maps", K) is None and not warnings_told and os.path.lexists(folder)
    assert store.read("maps", K, ("value.safetensors",)) is None
    assert not os.path.lexists(folder) and len(list((store.root / "damaged").iterdir())) == 1
    (line,) = warnings_told
    assert line.startswith(f"stored maps {K} is damaged (it is '") and "computed again" in line


def test_a_value_under_another_name_is_found(store, warnings_told):
    folder = fill(store)
    folder.rename(store.folder("scores", K))
    assert store.read("scores", K, ()) is None
    assert f"stored scores {K} is damaged (it is 'maps' with the key {K})" in warnings_told[0]


def record_of(key, text):
    return {"record.json": json.dumps({"key": key, "spec": text, "value": 1}).encode()}


RECORD_SPEC, RECORD_KEY = spec_of("record@3/metric/accuracy@1()")


@pytest.mark.parametrize(
    ("key", "text", "whole"),
    [
        (RECORD_KEY, RECORD_SPEC, True),
        (K, RECORD_SPEC, False),
        (RECORD_KEY, SPEC, False),
        ([RECORD_KEY], RECORD_SPEC, False),
        (RECORD_KEY, [RECORD_SPEC], False),
        (RECORD_KEY, "[" * 100_000, False),
    ],
    ids=range(6),
)
def test_a_record_is_that_of_its_key(store, warnings_told, key, text, whole):
    store.write("record", RECORD_KEY, record_of(key, text))
    assert (store.read("record", RECORD_KEY, ("record.json",)) is not None) is whole
    assert len(warnings_told) == (0 if whole else 1)


# What is no folder or no file: nothing waits for it.


def loop(place):
    place.symlink_to(place)


OBSTACLES = {
    "file": lambda place: place.write_text("a file"),
    "pipe": os.mkfifo,
    "loop": loop,
    "dangling": lambda place: place.symlink_to("nowhere"),
    "device": lambda place: place.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("obstacle", OBSTACLES.values(), ids=list(OBSTACLES))
@pytest.mark.parametrize("name", ["checksums.json", "spec.json", "value.safetensors"])
def test_a_file_of_a_value_that_is_none_is_found(store, warnings_told, obstacle, name):
    file = fill(store) / name
    file.unlink()
    obstacle(file)
    assert store.look("maps", K, tuple(FILES)) is None
    assert store.read("maps", K, tuple(FILES)) is None
    assert len(warnings_told) == 1 and warnings_told[0].startswith(f"stored maps {K} is damaged ({name}")


@pytest.mark.parametrize("obstacle", OBSTACLES.values(), ids=list(OBSTACLES))
@pytest.mark.parametrize("place", ["maps/KEY", "maps", "partial", "partial/KEY", "damaged"])
def test_what_lies_in_the_place_of_a_folder_is_moved_before_work_is_done(store, warnings_told, obstacle, place):
    path = store.root / place.replace("KEY", K)
    path.parent.mkdir(parents=True, exist_ok=True)
    obstacle(path)
    if place == "damaged":  # so that something has to be moved there
        store.folder("maps", K).mkdir(parents=True)
    store.check_writable()
    assert store.read("maps", K, tuple(FILES)) is None
    with store.unfinished(K) as unfinished:
        unfinished.save("train", {"a": b"1"})
    store.write("maps", K, FILES)
    assert store.read("maps", K, tuple(FILES)) == FILES
    assert warnings_told and all("moved to" in line for line in warnings_told)


@pytest.fixture
def common(tmp_path):
    """The folder of the test, open to all."""
    tmp_path.chmod(0o777)


def test_a_closed_value_is_set_aside(store, warnings_told, common, nobody):
    folder = fill(store)
    folder.chmod(0o000)
    assert store.read("maps", K, ("value.safetensors",)) is None
    assert warnings_told[0].startswith(f"stored maps {K} is damaged (checksums.json: Permission denied)")
    store.write("maps", K, FILES)
    assert store.read("maps", K, tuple(FILES)) == FILES


DEEP = {
    "nested lists": b"[" * 100_000,
    "nested tables": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "nested a little": b"[" * 50 + b"]" * 50,
    "a long number": b'{"value.safetensors": 1' + b"0" * 10_000 + b"}",
}


@pytest.mark.parametrize("content", DEEP.values(), ids=list(DEEP))
@pytest.mark.parametrize("file", ["checksums.json", "spec.json"])
def test_json_that_is_deep_or_long_is_damage(store, warnings_told, content, file):
    if file == "spec.json":
        store.write("maps", K, {**FILES, file: content})
    else:
        (fill(store) / file).write_bytes(content)
    assert store.read("maps", K, tuple(FILES)) is None
    assert len(warnings_told) == 1 and f"stored maps {K} is damaged" in warnings_told[0]


# Checkpoints are of a key and a phase; a lock that was taken over is given up.


@pytest.mark.parametrize("to", ["OTHER/train", "KEY/fine"])
def test_a_checkpoint_of_another_value_or_phase_is_not_used(store, warnings_told, to):
    with store.unfinished(K) as unfinished:
        unfinished.save("train", {"a": b"1"})
    moved = store.root / "partial" / to.replace("OTHER", OTHER).replace("KEY", K)
    moved.parent.mkdir(exist_ok=True)
    (store.root / "partial" / K / "train").rename(moved)
    with store.unfinished(moved.parent.name) as unfinished:
        assert unfinished.load(moved.name, ("a",)) is None
    assert "is damaged and ignored (it belongs to another value)" in warnings_told[0]


def test_a_checkpoint_that_names_no_value_is_used(store):
    with store.unfinished(K) as unfinished:
        place = unfinished.place / "train"
        place.mkdir()
        (place / "a").write_bytes(b"1")
        (place / "checksums.json").write_text(json.dumps({"a": hashlib.sha256(b"1").hexdigest()}))
        assert unfinished.load("train", ("a",)) == {"a": b"1"}


@pytest.mark.parametrize("obstacle", [*OBSTACLES.values(), Path.mkdir], ids=[*OBSTACLES, "folder"])
def test_a_lock_that_is_none_is_removed(store, obstacle, monkeypatch):
    monkeypatch.setattr("bench.engine.locks.TORN", -1.0)
    lock = store.root / "partial" / K / "lock"
    lock.parent.mkdir(parents=True)
    obstacle(lock)
    with store.unfinished(K):
        assert json.loads(lock.read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("text", ["[" * 5000, json.dumps({"host": socket.gethostname(), "pid": 10**30})])
def test_a_lock_of_strange_content_is_abandoned(text):
    assert is_owner_gone(text, 10)


def take_over(unfinished):
    """What a process does that finds the lock unrenewed."""
    (unfinished.place / "lock").write_text(json.dumps({"host": "elsewhere", "pid": 1}))


def test_a_process_whose_lock_was_taken_over_leaves_everything_as_it_is(store):
    with store.unfinished(K) as unfinished:
        unfinished.save("train", {"a": b"1"})
        take_over(unfinished)
        with pytest.raises(Busy):
            unfinished.save("train", {"a": b"2"})
        unfinished.discard()
        assert unfinished.load("train", ("a",)) == {"a": b"1"}
    assert json.loads((unfinished.place / "lock").read_text())["host"] == "elsewhere"


def test_a_checkpoint_that_is_removed_while_it_is_written_is_the_other_processs(store, monkeypatch):
    with store.unfinished(K) as unfinished:

        def overtaken(*args):
            take_over(unfinished)
            raise FileNotFoundError(2, "No such file or directory")

        monkeypatch.setattr("bench.engine.store._write_all", overtaken)
        with pytest.raises(Busy):
            unfinished.save("train", {"a": b"1"})
        (unfinished.place / "lock").write_text(unfinished.lock.mine)
        monkeypatch.setattr("bench.engine.store._write_all", lambda *args: Path("nowhere").stat())
        with pytest.raises(bench.StoreError):
            unfinished.save("train", {"a": b"1"})


# Listing beside processes that write.


def test_what_goes_while_it_is_listed_counts_nothing(store, monkeypatch, catalog):
    fill(store)
    (store.root / "partial" / f"{K}-01234567").mkdir()
    monkeypatch.setattr(os, "walk", lambda folder: iter([(str(folder), [], ["gone"])]))
    assert {(held.name, held.size) for held in cleanup.list_holdings(store)} == {
        ("maps", 0),
        ("scores", 0),
        ("partial", 0),
    }
    listed = list(Path.iterdir(store.root / "partial"))
    shutil.rmtree(store.root / "partial")
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(listed if self.name == "partial" else ()))
    monkeypatch.setattr(Path, "is_dir", lambda self: True)
    assert not list(cleanup.find_unusable(store, catalog, unfinished=False))


def test_what_was_set_aside_can_be_removed(store, catalog):
    for number, obstacle in enumerate((*OBSTACLES.values(), Path.mkdir)):
        (store.root / "damaged").mkdir(parents=True, exist_ok=True)
        obstacle(store.root / "damaged" / str(number))
    for unusable in list(cleanup.find_unusable(store, catalog, unfinished=False)):
        cleanup.remove(store, unusable)
    assert not list((store.root / "damaged").iterdir())
