"""What defenses promise."""

from __future__ import annotations

import contextlib
import copy
import tempfile

import torch
from torch import Tensor, nn

from bench.components import Defense
from bench.engine import Catalog, Fit, seeded
from bench.testing.contracts.shared import ensure, forbid_global_rng
from bench.testing.fixtures import TinySchedule, tiny_fit

# An epoch of them: a resumed training that has forgotten whether a step is odd or even ends otherwise.
THREE_STEPS = TinySchedule(batch=8)


def trains_all_weights_reproducibly(component: Defense, catalog: Catalog) -> None:
    states = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder, forbid_global_rng():
            fit = tiny_fit(folder, THREE_STEPS)
            start = copy.deepcopy(fit.fresh().state_dict())
            with seeded(fit.seed, "weights"):
                form = component.build(fit.model, fit.data.shape, len(fit.data.classes)).state_dict()
            states.append(_train(component, fit))
            ensure(fit.log, "train did not call fit.minimise, so nothing was trained")
    first, second = states
    ensure(
        set(first) == set(form),
        "train returned a network of another architecture than fit.fresh(); let the defense's build make it",
    )
    for name, tensor in first.items():
        ensure(
            torch.equal(tensor, second[name]),
            f"two trainings with the same seed differ in {name}; draw from bench.noise, and keep nothing between "
            "trainings",
        )
        if name in start and not name.endswith(("mean", "std")):
            ensure(not torch.equal(tensor, start[name]), f"training does not change the weight {name}")


def resumes_where_it_stopped(component: Defense, catalog: Catalog) -> None:
    with tempfile.TemporaryDirectory() as folder:
        fit = tiny_fit(folder, THREE_STEPS)
        whole = _train(component, fit)
    for phase in dict.fromkeys(phase.name for phase in fit.log):
        with tempfile.TemporaryDirectory() as folder:
            fit = tiny_fit(folder, THREE_STEPS)
            _stop_after_checkpoint(fit, phase)
            with contextlib.suppress(_Stopped):
                component.train(fit)
            resumed = _train(component, tiny_fit(folder, THREE_STEPS))
        for name, tensor in whole.items():
            ensure(
                torch.equal(tensor, resumed[name]),
                f"a training that stops in phase {phase!r} and resumes ends with a different {name}; keep in fit.state "
                "what a loss remembers",
            )


class _Stopped(Exception):
    """Stands for an interruption."""


def _stop_after_checkpoint(fit: Fit, last: str) -> None:
    """Make a training stop after the first checkpoint of a phase."""
    save = fit._unfinished.save

    def save_and_stop(phase: str, files: dict[str, bytes]) -> None:
        save(phase, files)
        if phase == last:
            raise _Stopped

    fit._unfinished.save = save_and_stop  # type: ignore[method-assign]  # one instance alone, which ends here


def _train(component: Defense, fit: Fit) -> dict[str, Tensor]:
    network = component.train(fit)
    ensure(
        isinstance(network, nn.Module),
        f"train returned a {type(network).__name__}; return the network that fit.minimise returns",
    )
    return network.state_dict()
