"""What contracts share: their error, and what every component must leave alone."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench import noise
from bench.errors import BenchError


class ContractBroken(BenchError):
    """A component does not do what its kind promises; the text says what, in its author's terms."""

    exit_code = 1


def ensure(holds: Any, text: str) -> None:
    """Raise ContractBroken unless a condition holds."""
    if not bool(holds):
        raise ContractBroken(text)


@contextlib.contextmanager
def forbid_side_effects(network: nn.Module, *tensors: Tensor) -> Iterator[None]:
    """Inside, a component may change nothing that outlives it.

    That covers the network's weights, mode and hooks, the tensors, grad mode, and the global random generators.
    """

    def state() -> tuple[Any, ...]:
        return (
            [m.training for m in network.modules()],
            [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in network.modules()],
            [p.requires_grad for p in network.parameters()],
        )

    modes: list[bool] = []
    handle = network.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    before, weights, grad_mode = state(), copy.deepcopy(network.state_dict()), torch.is_grad_enabled()
    with forbid_changes(*tensors), forbid_global_rng():
        try:
            yield
            ensure(state() == before, "it left the network's mode, hooks or requires_grad changed; restore them")
        finally:
            handle.remove()
    same = all(torch.equal(weights[n], t) for n, t in network.state_dict().items())
    ensure(same, "it changed the network's weights; work on a copy of the network")
    ensure(not any(modes), "it ran the network in train mode; leave the network in eval mode")
    ensure(torch.is_grad_enabled() == grad_mode, "it left grad mode changed; use `with torch.enable_grad():`")


@contextlib.contextmanager
def forbid_changes(*tensors: Tensor) -> Iterator[None]:
    """Inside, the tensors may not be changed."""
    copies, flags = [t.clone() for t in tensors], [t.requires_grad for t in tensors]
    yield
    ensure(
        all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(copies, tensors, strict=True)),
        "it changed its inputs (images, targets or maps) in place; work on a copy",
    )
    ensure(
        flags == [t.requires_grad for t in tensors],
        "it set requires_grad on the images passed to it; set it on images.detach()",
    )


@contextlib.contextmanager
def forbid_global_rng() -> Iterator[None]:
    """Inside, random numbers may come from `bench.noise` alone."""

    def states() -> dict[str, Any]:
        numpy = np.random.get_state(legacy=False)["state"]
        return {
            "torch": torch.get_rng_state().tolist(),
            "numpy": (numpy["key"].tolist(), numpy["pos"]),
            "Python": random.getstate(),
        }

    before = states()
    yield
    for owner, state in states().items():
        ensure(state == before[owner], f"it used {owner}'s RNG; draw from bench.noise instead")


def ensure_rows_are_independent(function: Callable[..., Tensor], *tensors: Tensor) -> None:
    """Raise ContractBroken unless each row of a result depends on its own row of the tensors alone."""
    count = len(tensors[0])
    whole = _run_in_chunks(function, tensors, [count])
    again = _run_in_chunks(function, tensors, [count])
    ensure(torch.equal(whole, again), "two runs with the same seed differ; draw from bench.noise alone")
    parts = _run_in_chunks(function, tensors, [1, 1, count - 2])
    ensure(
        torch.allclose(parts, whole, rtol=1e-6, atol=1e-9),
        f"the result of an image in a chunk of 1 differs from its result in a batch of {count}, by up to "
        f"{float((parts - whole).abs().max()):.1e}; an image's result must not depend on the others",
    )


def _run_in_chunks(function: Callable[..., Tensor], tensors: tuple[Tensor, ...], sizes: list[int]) -> Tensor:
    """Apply a function to chunks of rows, each under the noise of its images."""
    results, start = [], 0
    for size in sizes:
        chunk = slice(start, start + size)
        with noise.rows(0, "contract", range(start, start + size)):
            results.append(function(*(t[chunk] for t in tensors)))
        start += size
    return torch.cat(results)
