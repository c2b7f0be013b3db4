"""The public names: what type checkers see is what a program gets, and what version 0.1 had still works."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import bench
from bench.engine import catalog as catalogs

# The public names of version 0.1.
EARLIER = """
Attack BadComponent BadValue Ball Batch BenchError Case CellFailed Component Data Dataset Defense Diverged
EnvironmentProblem Explainer Fit Levels Metric Model Normalised Paper PluginError Record Schedule StoreError Undefined
UnknownName Victim checksum chunked component data_dir gradients hookimpl noise normalisation param run suggestion
testing
"""

# A plugin as version 0.1 taught to write it.
PLUGIN = '''
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch.testing import assert_close

import bench
from bench import noise
from bench.gradients import input_gradient, normalisation, softened


@dataclass(frozen=True)
class Faint(bench.Explainer):
    """The gradient, where it is large."""

    name = "faint"
    differentiable = True
    low: float = bench.param(0.0, "share of the largest", low=0, high=1)
    high: float = bench.param(1.0, "share of the largest", low=0, high=1)

    def problem(self):
        return f"low is {self.low}, above high" if self.low > self.high else None

    def attribute(self, network, images, targets):
        mean, std = normalisation(network)
        return input_gradient(network, images, targets)


@dataclass(frozen=True)
class Nudge(bench.Attack):
    """One step up the gradient of the mass on the left."""

    name = "nudge"
    beta: float = bench.param(20.0, "sharpness of softplus", low=0.01)

    def perturb(self, victim, images, targets, ball):
        bench.checked_eager(victim.network)
        moved = images.detach().requires_grad_()
        with torch.enable_grad(), softened(self.beta):
            attributions, logits = victim.seen(moved, targets)
            maps, _ = victim.both(moved, targets)
            (gradient,) = torch.autograd.grad(maps[..., :6].sum(), moved)
        return ball.project(images + float(ball.eps) * ball.steepest(gradient), images)


@dataclass(frozen=True)
class Brief(bench.Schedule):
    """One epoch."""

    name = "brief"
    epochs: int = 1
    batch: int = 32
    optimiser: Literal["adam", "adamw", "sgd", "nesterov"] = "adam"
    rate: float = 1e-3
    weight_decay: float = 0.0
    decay: tuple[int, ...] = ()
    augmentation: Literal["none", "crop_flip", "rotate_flip_blur"] = "none"
    clipping: float = 0.0
    limit: int = 64


@dataclass(frozen=True)
class Plain(bench.Defense):
    """Cross-entropy."""

    name = "plain"

    def train(self, fit):
        def loss(network, batch):
            return torch.nn.functional.cross_entropy(network(batch.images), batch.labels)

        return fit.minimise(fit.fresh(), loss)


@dataclass(frozen=True)
class Left(bench.Metric):
    """Mass on the left."""

    name = "left"
    better = "lower"
    help = "share of the attacked map's mass on the left"

    def __call__(self, attacked_maps):
        return attacked_maps[..., : attacked_maps.shape[2] // 2].sum((1, 2))


@bench.hookimpl
def bench_components():
    return [Faint, Nudge, Brief, Plain, Left]
'''


def names_for_type_checkers():
    tree = ast.parse(Path(bench.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return sorted(alias.asname for node in block.body for alias in node.names)


def test_type_checkers_see_the_public_names():
    assert names_for_type_checkers() == sorted(bench.__all__)


@pytest.mark.parametrize("name", bench.__all__)
def test_every_public_name_exists(name):
    assert getattr(bench, name) is not None


@pytest.mark.parametrize("name", EARLIER.split())
def test_every_name_of_version_0_1_is_still_public(name):
    assert name in bench.__all__


@pytest.mark.parametrize(("name", "now"), [("checked_eager", "check_eager"), ("pictures", "images")])
def test_a_renamed_name_warns_and_works(name, now):
    with pytest.warns(DeprecationWarning, match=f"bench.{name} is now called bench.{now}"):
        assert getattr(bench, name) is getattr(bench, now)


@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_a_plugin_of_version_0_1_still_runs(install, tiny_run):
    install("acme", {"acme_plugin": PLUGIN})
    outcome = tiny_run(
        catalogs.load(),
        reference=False,
        schedule=["brief"],
        defense=["plain"],
        explainer=["faint:low=0.1"],
        attack=["nudge"],
        metric=["left", "kept_rate"],
    )
    assert not outcome.failures and len(outcome.records) == 2
    (left,) = (record for record in outcome.records.values() if record.metric == "left")
    assert 0 < left.value < 1 and not left.flags


def test_a_problem_of_version_0_1_is_still_found(install):
    install("acme", {"acme_plugin": PLUGIN})
    with (
        pytest.warns(DeprecationWarning, match="now called find_problem"),
        pytest.raises(bench.BadValue, match="above"),
    ):
        catalogs.load().read("explainer", "faint:low=0.5,high=0.1")


def test_an_objective_of_version_0_1_still_counts():
    @dataclasses.dataclass(frozen=True)
    class Dim(bench.Attack):
        name = "dim"

        def objective(self, victim, images, targets):
            return lambda moved: moved.mean((1, 2, 3))

        def perturb(self, victim, images, targets, ball):
            return ball.project(images - 1, images)

    images = torch.full((2, 3, 2, 2), 0.5)
    for method in (Dim().make_objective, Dim().make_loss):
        with pytest.warns(DeprecationWarning, match="Attack.objective is now called make_objective"):
            assert_close(method(None, images, None)(images), torch.tensor([0.5, 0.5]))


def test_a_step_of_an_attack_does_not_wait_for_the_device(monkeypatch):
    looks = []
    isfinite = torch.Tensor.isfinite
    monkeypatch.setattr(torch.Tensor, "isfinite", lambda self: looks.append(1) or isfinite(self))
    network, (images, targets) = bench.testing.tiny_network(smooth=True), bench.testing.tiny_images()
    explainer = bench.component("explainer", "gradient")
    explainer.maps(network, images.requires_grad_(), targets)
    assert not looks
    with torch.no_grad():
        explainer.maps(network, images, targets)
    assert looks


def test_importing_bench_loads_no_room():
    code = "import sys, bench; print([m for m in sys.modules if m.startswith('bench.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
