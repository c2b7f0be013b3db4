"""Work that several processes share: in what order, what failures cost, and that nothing is computed twice."""

from __future__ import annotations

import collections
import json
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import bench
from bench.engine import cluster
from bench.engine.bars import counted, find_count
from bench.engine.executors import Order, Processes, _Worker, divide, open_worker
from bench.engine.locks import Busy
from bench.engine.store import Store
from bench.engine.tasks import Task, perform
from bench.errors import CellFailed, EnvironmentProblem, PluginError

CPU = torch.device("cpu")


class Played:
    """An executor that ends tasks as told: `play` gives the errors of a key, one for each time that it is started."""

    def __init__(self, room, play):
        self.is_wide = room > 1
        self.room, self.play = room, {key: list(errors) for key, errors in play.items()}
        self.started, self.running = [], []

    def has_room(self):
        return len(self.running) < self.room

    def start(self, task):
        self.started.append(task.key)
        self.running.append(task)

    def wait(self, seconds):
        task = self.running.pop(0)
        errors = self.play.get(task.key)
        return [(task, errors.pop(0) if errors else None)]


def make_tasks(**needs):
    """Tasks by key, in order: those whose key begins with r are records."""
    tasks = {
        key: Task("record" if key[0] == "r" else "trained", key, None, place, set(first.split()))
        for place, (key, first) in enumerate(needs.items())
    }

    def spread(key, record):
        tasks[key].cells.add(record)
        for need in tasks[key].needs:
            spread(need, record)

    for key in tasks:
        if key[0] == "r":
            spread(key, key)
    return list(tasks.values())


NEEDS = {"a": "", "b": "a", "r1": "b", "c": "", "r2": "b c", "r3": "c"}


@pytest.mark.parametrize("room", [1, 3])
def test_each_task_is_started_once_and_after_its_needs(store, room):
    executor = Played(room, {})
    ended = [task.key for task, error in perform(make_tasks(**NEEDS), executor, store) if error is None]
    assert sorted(ended) == ["r1", "r2", "r3"] and sorted(executor.started) == sorted(NEEDS)
    for key, first in NEEDS.items():
        assert all(executor.started.index(need) < executor.started.index(key) for need in first.split())
    if room == 1:  # the walk through the cells
        assert executor.started == ["a", "b", "r1", "c", "r2", "r3"]


def test_several_places_begin_with_what_most_records_wait_for(store):
    needs = {"a": "", "r1": "a", "c": "", "d": "c", "r2": "d", "r3": "d", "r4": "d"}
    orders = {}
    for room in (1, 2):
        executor = Played(room, {})
        assert len(list(perform(make_tasks(**needs), executor, store))) == 4
        orders[room] = executor.started
    assert orders == {1: [*needs], 2: ["c", "a", "d", "r1", "r2", "r3", "r4"]}


def test_a_failure_costs_what_needs_it_and_no_more(store):
    executor = Played(1, {"b": [CellFailed("b is bad")]})
    ended = {task.key: str(error) for task, error in perform(make_tasks(**NEEDS), executor, store)}
    assert ended == {"r1": "b is bad", "r2": "b is bad", "r3": "None"}


def test_what_only_failed_records_need_is_not_computed(store):
    executor = Played(1, {"a": [CellFailed("too few images")]})
    tasks = make_tasks(a="", r1="a")
    tasks.append(Task("trained", "b", None, 2, set(), {"r1"}))
    assert [task.key for task, _ in perform(tasks, executor, store)] == ["r1"] and executor.started == ["a"]


def test_what_another_process_computes_comes_last(store, warnings_told, monkeypatch):
    held = iter([True, True, True, False])
    monkeypatch.setattr(Store, "is_held", lambda self, key: key == "a" and next(held, False))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    executor = Played(1, {"a": [Busy("a")]})
    ended = [task.key for task, _ in perform(make_tasks(**NEEDS), executor, store)]
    assert executor.started == ["a", "c", "r3", "a", "b", "r1", "r2"] and sorted(ended) == ["r1", "r2", "r3"]
    assert warnings_told == ["waiting for other processes that compute what is left"]


# On real processes.

PLUGIN = """
import os, signal, time
from dataclasses import dataclass
import bench

def note(what):
    with open(os.environ["NOTES"], "a") as stream:
        stream.write(what + "\\n")

@bench.hookimpl
def bench_components():
    return [Noted, Pale, Still, Mean]

@dataclass(frozen=True)
class Noted(bench.Defense):
    '''Trains plainly; ends its process once, where it is asked to.'''
    name = "noted"
    weight: str = bench.param("1")
    def train(self, fit):
        note(f"defense {self.weight}")
        flag = os.environ.get("KILL_ONCE")
        if flag and self.weight == "2" and not os.path.exists(flag):
            open(flag, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        flag = os.environ.get("LOSE_MACHINE")
        if flag and self.weight == "2" and not os.path.exists(flag):
            import ray
            with open(flag + ".part", "w") as stream:
                stream.write(ray.get_runtime_context().get_node_id())
            os.rename(flag + ".part", flag)
            time.sleep(100)  # its machine is taken away
        return fit.minimise(fit.fresh(), lambda network, batch: network(batch.images).square().mean())

@dataclass(frozen=True)
class Pale(bench.Explainer):
    '''The image itself.'''
    name = "pale"
    def attribute(self, network, images, targets):
        return images

@dataclass(frozen=True)
class Still(bench.Attack):
    '''Moves nothing much.'''
    name = "still"
    def perturb(self, victim, images, targets, ball):
        note("attack")
        return images + float(ball.eps)

@dataclass(frozen=True)
class Mean(bench.Metric):
    '''The mean.'''
    name = "mean_of_maps"
    better = "higher"
    def __call__(self, clean_maps, attacked_maps):
        note("metric")
        return (clean_maps - attacked_maps).flatten(1).mean(1)
"""
WORDS = (
    "run --schedule quick:epochs=1,batch=32,limit=64 --samples 10 --no-reference --device cpu --json --attack still "
    "--defense noted:weight=1 --defense noted:weight=2 --explainer pale --metric mean_of_maps --metric accuracy"
)
ONCE = {"defense 1": 1, "defense 2": 1, "attack": 2, "metric": 2}


@pytest.fixture
def begin(install, tmp_path):
    install("acme", {"acme_plugin": PLUGIN})

    def run(store, *words, **environment):
        return subprocess.Popen(
            [sys.executable, "-m", "bench.cli", *WORDS.split(), *words, "--store", str(tmp_path / store)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(tmp_path / "site-acme"), *filter(None, sys.path)]),
                "NOTES": str(tmp_path / store) + ".notes",
                "OMP_NUM_THREADS": "1",
                **environment,
            },
        )

    return run


def end(process):
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0 and "leaked" not in err, err
    return [{k: v for k, v in record.items() if k not in ("cost", "provenance")} for record in json.loads(out)]


def count(place):
    return collections.Counter(Path(f"{place}.notes").read_text().splitlines())


@pytest.mark.slow
def test_runs_and_jobs_share_the_work(begin, tmp_path):
    first, second = begin("shared"), begin("shared")
    records = end(first)
    assert len(records) == 4 and end(second) == records
    assert count(tmp_path / "shared") == ONCE
    assert not list((tmp_path / "shared" / "partial").iterdir())
    # A killed process costs the value that it was computing; the records are the same.
    flag = tmp_path / "killed"
    assert end(begin("jobs", "--jobs", "2", "--share", "2", KILL_ONCE=str(flag))) == records and flag.exists()
    assert count(tmp_path / "jobs") == {**ONCE, "defense 2": 2}


@pytest.mark.slow
def test_a_cluster_that_loses_a_machine_computes_its_value_again(begin, tmp_path, monkeypatch):
    """Two machines, played by processes of Ray, with a store between them; one is lost during a training."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    records = end(begin("alone"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site-acme"), *filter(None, sys.path)]))
    monkeypatch.setenv("NOTES", str(tmp_path / "cluster.notes"))
    monkeypatch.setenv("LOSE_MACHINE", str(tmp_path / "lost"))
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        driver = begin("cluster", "--ray", cluster.address)
        lost = tmp_path / "lost"
        while not lost.exists():
            assert driver.poll() is None, driver.communicate()
            time.sleep(0.1)
        (node,) = [node for node in nodes if node.node_id == lost.read_text()]
        cluster.remove_node(node, allow_graceful=False)
        assert end(driver) == records
    finally:
        cluster.shutdown()
    assert count(tmp_path / "cluster") == {**ONCE, "defense 2": 2}


def test_jobs_need_a_device_of_their_own_or_share_it(bench_, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    code, _, err = bench_("run", "--jobs", "3", "--device", "cpu")
    assert code == 2 and err == (
        "bench: --jobs 3: there are 2 cores, and times are a result only where a job has one for itself; lower it, "
        "or add --share 2\n"
    )
    assert divide(CPU, 2, 1) == divide(CPU, 3, 2) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    assert divide(torch.device("cuda"), 1, 1) == ["4"]
    with pytest.raises(bench.BadValue, match=r"--jobs 3: there is 1 GPU, .* --share 3$"):
        divide(torch.device("cuda"), 3, 2)


def test_ray_is_asked_for_where_it_is_missing_and_alone(bench_, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = bench_("run", "--ray")
    assert code == 3 and err == (
        "bench: --ray needs Ray, which is not installed; pip install 'robust-explanation-bench[cluster]'\n"
    )
    code, _, err = bench_("run", "--ray", "auto", "--jobs", "2")
    assert code == 2 and err == "bench: --ray starts its own processes; leave out --jobs, --isolate and --timeout\n"


def test_a_cluster_that_does_not_answer_is_named(bench_, monkeypatch):
    def init(**options):
        raise ConnectionError("Failed to connect")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    code, _, err = bench_("run", "--ray", "10.0.0.1:6379")
    assert code == 3 and re.search(
        r"--ray 10.0.0.1:6379: no cluster answers there \(ConnectionError: Failed to connect, .*\); "
        r"if it wants a token, set RAY_AUTH_MODE=token\n$",
        err,
    )
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert "token" not in bench_("run", "--ray", "10.0.0.1:6379")[2]


def test_a_record_says_which_times_were_measured_on_a_shared_device(tiny_run, monkeypatch):
    monkeypatch.setattr("bench.engine.phases._shares", True)
    (record,) = tiny_run(metric=["train_time"], reference=False).records.values()
    assert record.provenance["shared"] == "trained"
    monkeypatch.undo()
    (record,) = tiny_run(metric=["accuracy"], seed=["1"], reference=False).records.values()
    assert "shared" not in record.provenance
    monkeypatch.setenv("BENCH_SHARED", "1")
    (record,) = tiny_run(metric=["train_time"], seed=["2"], reference=False).records.values()
    assert record.provenance["shared"] == "trained"


def test_a_worker_without_a_plugin_says_so(tmp_path):
    order = Order((), ("acme 1.0",), None, tmp_path, CPU, 1, False)
    with pytest.raises(EnvironmentProblem, match=r"worker .* lacks the plugin acme 1.0; .* --without acme$"):
        open_worker(order)


def test_a_worker_need_not_have_what_is_left_out(tmp_path):
    executor = open_worker(Order(("acme",), (), None, tmp_path, CPU, 1, False))
    assert executor.catalog.without == ("acme",)


def test_a_worker_that_sees_another_store_says_so(tmp_path):
    order = Order((), (), None, tmp_path, CPU, 1, False, tmp_path / "partial" / "0123")
    with pytest.raises(EnvironmentProblem, match=r"worker .* does not see the store .*; mount it there .*--store$"):
        open_worker(order)


def test_a_cluster_leaves_a_sign_in_the_store_while_it_runs(catalog, store, monkeypatch):
    actor = SimpleNamespace(remote=lambda *given: None)
    begun = {}
    ray = SimpleNamespace(
        init=lambda **options: begun.update(options),
        cluster_resources=lambda: {"CPU": 2.0},
        remote=lambda *target, **options: (lambda inner: actor) if options else actor,
        shutdown=lambda: None,
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    with cluster.Cluster(catalog, store, "auto", cluster.LOCAL, sharing=2) as executor:
        told = pickle.loads(executor.order)
        assert told.sign.is_absolute() and told.sign.is_relative_to(told.root) and told.sign.is_dir()
        assert (told.device, told.threads, told.shares) == (CPU, 1, True)
    assert not told.sign.exists() and begun["address"] == "local"  # not the cluster that this machine may belong to


def test_a_worker_of_a_cluster_uses_the_data_folder_for_each_task(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_open", {})
    monkeypatch.setattr(cluster, "open_worker", lambda order: bench.data_dir())
    monkeypatch.setattr(cluster, "answer", lambda executor, task: (str(executor), str(bench.data_dir())))
    order = pickle.dumps(Order((), (), tmp_path, tmp_path, CPU, 1, False))
    for _ in range(2):
        assert cluster.compute(order, None, "key", b"") == (str(tmp_path), str(tmp_path))


def test_a_worker_of_a_cluster_says_in_a_line_why_it_cannot_work(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_open", {})
    nowhere = pickle.dumps(Order((), (), tmp_path / "none", tmp_path, CPU, 1, False))
    stopped, name, text = cluster.compute(nowhere, None, "key", b"")
    assert (stopped, name) == ("stopped", "EnvironmentProblem") and text.endswith("check --data-dir and BENCH_DATA_DIR")

    problem = "plugin 'acme' of acme does not import"

    def fail(order):
        raise PluginError(problem)

    monkeypatch.setattr(cluster, "open_worker", fail)
    order = pickle.dumps(Order((), (), None, tmp_path, CPU, 1, False))
    assert cluster.compute(order, None, "key", b"") == ("stopped", "CellFailed", problem)


def test_a_process_that_is_killed_while_it_speaks_costs_a_try(catalog, store):
    here, there = multiprocessing.Pipe()
    os.write(there.fileno(), b"\0\0\0\x20half")
    there.close()
    processes = Processes(catalog, store, CPU)
    process = SimpleNamespace(join=lambda *_: None, kill=lambda: None, exitcode=-9)
    worker = _Worker(process, here, 0, SimpleNamespace(key="key"), since=0.0)
    processes.working.append(worker)
    ((_, error),) = processes.wait(None)
    assert str(error) == "its process ended by SIGKILL, perhaps by a component"


def test_gpus_are_dealt_out(catalog, store, monkeypatch):
    """Each process sees one; no GPU is needed to look at what it would see."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    seen = []

    class Context:
        def Process(self, target, args):  # noqa: N802, its name in the library
            return self

        def start(self):
            seen.append(os.environ["CUDA_VISIBLE_DEVICES"])

    monkeypatch.setattr("multiprocessing.get_context", lambda kind: Context())
    processes = Processes(catalog, store, torch.device("cuda"), 4, sharing=2)
    for _ in range(4):
        processes.working.append(processes._begin(None))
    assert seen == ["4", "6", "4", "6"] and os.environ["CUDA_VISIBLE_DEVICES"] == "4,6"
    assert processes.order.shares and not Processes(catalog, store, torch.device("cuda"), 2).order.shares


def test_a_process_says_how_far_it_is(catalog, store):
    here, there = multiprocessing.Pipe()
    processes, task = Processes(catalog, store, torch.device("cpu")), SimpleNamespace(key="a")
    processes.working.append(_Worker(None, here, 0, task))
    assert processes.find_count(task) is None
    with counted(50, "train", "step") as add:
        add(20)
        there.send(("count", find_count()))
    assert processes.wait(0.1) == [] and processes.find_count(task).done == 20
    there.send(("done",))
    assert processes.wait(None) == [(task, None)] and processes.find_count(task) is None
    processes.idle.clear()
    here.close()
    there.close()
