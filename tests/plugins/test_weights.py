"""Weights from elsewhere: every form they come in, and everything that can be wrong with them."""

from __future__ import annotations

import pickle
import warnings

import pytest
import safetensors.torch
import torch

import bench

SHORT = {"metric": ["train_time"], "schedule": ["quick:epochs=1,batch=32,limit=64"]}


@pytest.fixture
def state():
    torch.manual_seed(3)
    return bench.component("model", "resnet20").build((3, 32, 32), 10).state_dict()


def bare(state):
    return {n.removeprefix("network."): t for n, t in state.items() if n.startswith("network.")}


def network_of(state):
    """The network without its mean and std, as other code would have it."""
    network = bench.component("model", "resnet20").build((3, 32, 32), 10)
    network.load_state_dict(state)
    return network.network


def averaged(state):
    """What torch saves of the average of a parallel network."""
    return torch.optim.swa_utils.AveragedModel(torch.nn.DataParallel(network_of(state))).state_dict()


def compiled_part(state):
    network = network_of(state)
    network.layer2 = torch.compile(network.layer2)
    return network.state_dict()


FORMS = {
    "whole.safetensors": lambda state, path: safetensors.torch.save_file(state, path),
    "bare.safetensors": lambda state, path: safetensors.torch.save_file(bare(state), path),
    "bare.pt": lambda state, path: torch.save(bare(state), path),
    "wrapped.th": lambda state, path: torch.save({"state_dict": bare(state), "best_prec1": 91.0}, path),
    "parallel.th": lambda state, path: torch.save(
        {"state_dict": {f"module.{n}": t for n, t in bare(state).items() if "num_batches" not in n}}, path
    ),
    "safetensors.bin": lambda state, path: safetensors.torch.save_file(state, path),
    "net.pth": lambda state, path: torch.save({"net": bare(state), "acc": 95.1, "epoch": 7}, path),
    "compiled.pt": lambda state, path: torch.save(torch.compile(network_of(state)).state_dict(), path),
    "compiled_part.pt": lambda state, path: torch.save(compiled_part(state), path),
    "averaged.pt": lambda state, path: torch.save({"swa": averaged(state)}, path),
    "ema.pt": lambda state, path: torch.save({"ema": {"shadow": state, "decay": 0.99}}, path),
    "nested.pt": lambda state, path: torch.save(
        {"run": {"states": [{"model": bare(state)}]}, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}, path
    ),
    "begun.ckpt": lambda state, path: torch.save(
        {"state_dict": {f"model.{n}": t for n, t in bare(state).items()}}, path
    ),
    "twice.pt": lambda state, path: torch.save({"model": bare(state), "best": bare(state)}, path),
    "old.pt": lambda state, path: torch.save(bare(state), path, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_network(tiny_run, store, tmp_path, state, form):
    FORMS[form](state, tmp_path / form)
    outcome = tiny_run(reference=False, defense=[f"weights:path={tmp_path / form}"], model=["resnet20"], **SHORT)
    assert not outcome.failures
    (folder,) = store.list_folders("trained")
    placed = safetensors.torch.load_file(folder / "value.safetensors")
    assert all(torch.equal(placed[name], tensor) for name, tensor in state.items())
    found = {r.metric: r for r in outcome.records.values()}
    assert found["train_time"].value is None and found["train_time"].undefined_because == "nothing was trained here"


def test_the_content_is_the_identity_and_the_place_is_not(tmp_path, state):
    for name in ("a.safetensors", "b.safetensors"):
        safetensors.torch.save_file(state, tmp_path / name)
    first, second = (
        bench.component("defense", f"weights:path={tmp_path / n}").identity for n in ("a.safetensors", "b.safetensors")
    )
    assert first.partition("#")[2] != "" and str(tmp_path) not in first
    assert len({first, second}) == 1
    state["network.linear.bias"][0] += 1
    safetensors.torch.save_file(state, tmp_path / "b.safetensors")
    assert bench.component("defense", f"weights:path={tmp_path / 'b.safetensors'}").identity != first


class Code:
    def __reduce__(self):
        return print, ("this must never be printed",)


def other_classes(state):
    found = bare(state)
    return {**found, "linear.weight": torch.zeros(100, 64), "linear.bias": torch.zeros(100)}


def script():
    import io

    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


WRONG = {
    "code": (
        lambda s: pickle.dumps({"state_dict": Code()}),
        "contain pickled objects, which could run code; save the state dict alone",
    ),
    "torch code": (lambda s: saved({"model": Code()}), "contain pickled objects, which could run code"),
    "not a file of weights": (lambda s: b"hello, world", "are damaged, or not a state dict"),
    "empty": (lambda s: b"", "are damaged, or not a state dict"),
    "cut": (lambda s: saved(bare(s))[:5000], "are damaged, or not a state dict"),
    "cut safetensors": (lambda s: safetensors.torch.save(s)[:9000], "are damaged, or not a state dict"),
    "no tensors": (lambda s: saved({"epoch": 3}), "contain no state dict: names and tensors"),
    "a list": (lambda s: saved([torch.zeros(2)]), "contain no state dict: names and tensors"),
    "another class count": (
        lambda s: safetensors.torch.save(other_classes(s)),
        r"linear.weight is \(100, 64\), must be \(10, 64\) for this model and number of classes",
    ),
    "another model": (
        lambda s: saved(bench.component("model", "lenet").build((3, 32, 32), 10).network.state_dict()),
        r"lack conv1.weight and 96 more; are they those of another model\?",
    ),
    "whole numbers": (
        lambda s: safetensors.torch.save({**bare(s), "linear.bias": torch.zeros(10, dtype=torch.int8)}),
        "linear.bias has type torch.int8, must be plain floats; are they quantised",
    ),
    "no numbers": (
        lambda s: safetensors.torch.save({**bare(s), "linear.bias": torch.full((10,), torch.nan)}),
        "linear.bias contains NaN or infinity in torch.float32",
    ),
    "two that differ": (
        lambda s: saved({"model": bare(s), "ema": {n: t + 1 for n, t in bare(s).items()}}),
        "contain 2 networks that fit, under 'model' and 'ema', and they differ; save the state dict of one alone",
    ),
    "two in one dict": (
        lambda s: saved({f"{who}.{n}": t + i for i, who in enumerate(("online", "slow")) for n, t in bare(s).items()}),
        "contain 2 networks that fit, under 'online' and 'slow', and they differ",
    ),
    "a normaliser beside": (
        lambda s: saved({"normalizer.mean": torch.zeros(3), **{f"model.{n}": t for n, t in bare(s).items()}}),
        "have an unknown normalizer.mean; are they those",
    ),
    "tensors without names": (
        lambda s: saved({"decay": 0.99, "shadow_params": list(bare(s).values())}),
        "contain no state dict: names and tensors, perhaps under 'state_dict'; they contain decay, shadow_params",
    ),
    "an optimiser's": (
        lambda s: saved({"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}),
        "lack conv1.weight and 96 more; are they those of another model",
    ),
    "a circle": (lambda s: saved(circle()), r"are damaged, or not a state dict \(maximum recursion depth exceeded"),
    "a program": (lambda s: script(), r"are a TorchScript program; save the state_dict\(\) of torch.jit.load of it"),
    "more": (lambda s: saved({**bare(s), "extra": torch.zeros(1)}), "have an unknown extra; are they those"),
}


def circle():
    found = {}
    found["state_dict"] = found
    return found


def saved(found):
    import io

    buffer = io.BytesIO()
    torch.save(found, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("case", WRONG)
def test_weights_that_cannot_be_used_are_named(tiny_run, tmp_path, state, case, capsys):
    content, message = WRONG[case]
    path = tmp_path / "weights.pt"
    path.write_bytes(content(state))
    outcome = tiny_run(reference=False, defense=[f"weights:path={path}"], model=["resnet20"], metric=["accuracy"])
    (failure,) = outcome.failures.values()
    with pytest.raises(type(failure), match=f"weights {path}:? {message}"):
        raise failure
    assert isinstance(failure, bench.BenchError) and "\n" not in str(failure)
    assert "never be printed" not in capsys.readouterr().out


@pytest.mark.parametrize("place", ["/", "/usr", ".", "PATH"])
def test_a_folder_is_no_file_of_weights(tmp_path, place):
    place = place.replace("PATH", str(tmp_path))
    with pytest.raises(bench.BadValue, match=rf"defense weights: path is {place}, a folder; name a file in it"):
        bench.component("defense", f"weights:path={place}")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(
        bench.EnvironmentProblem, match=r"nothing.pt cannot be read \(No such file or directory\); check"
    ):
        _ = bench.component("defense", f"weights:path={tmp_path / 'nothing.pt'}").identity
