"""Forward passes of strangers' networks: what they overwrite, and what they would compute again in backward."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from bench.errors import BadComponent

OWN = ("bench.", "bench_explainers.")  # modules of the suite with functions; a plugin may be called bench_anything


@dataclass
class Forward:
    """A forward pass of a guarded network.

    `has_graph`: whether it began with grad mode on. `hidden`: activations that it computes with grad mode off.
    """

    has_graph: bool
    hidden: list[str] = field(default_factory=list)


_forward: contextvars.ContextVar[Forward | None] = contextvars.ContextVar("forward", default=None)


def forward_pass() -> Forward | None:
    """The forward pass of a guarded network that is running, or None."""
    return _forward.get()


@contextlib.contextmanager
def guarded(network: nn.Module) -> Iterator[None]:
    """Inside, a network may write into its images, which are copies, and computes nothing again in backward.

    What is computed again does not know what has replaced activations in its forward. torch's checkpoints keep their
    values instead. Raises BadComponent where an autograd.Function hides activations that are replaced.
    """
    is_scripted = isinstance(network, torch.jit.ScriptModule)  # takes no hooks; check_eager refuses it where it matters
    if is_scripted or any(isinstance(hook, _Before) for hook in network._forward_pre_hooks.values()):
        yield
        return
    before, outside = _Before(), _forward.set(None)
    handles = network.register_forward_pre_hook(before), network.register_forward_hook(before.end, always_call=True)
    try:
        with _without_checkpoints():
            yield
    finally:
        _forward.reset(outside)  # also after an interruption, which runs no hooks
        for handle in handles:
            handle.remove()


class _Before:
    """The hooks of a guarded network."""

    def __init__(self) -> None:
        self.tokens: list[contextvars.Token[Forward | None]] = []

    def __call__(self, module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        self.tokens.append(_forward.set(Forward(torch.is_grad_enabled())))
        return tuple(part.clone() if isinstance(part, Tensor) else part for part in given)

    def end(self, module: nn.Module, given: Any, output: Any) -> None:
        passed = _forward.get()
        _forward.reset(self.tokens.pop())
        if passed is not None and passed.hidden and isinstance(output, Tensor):
            name = next(_functions_in(output), None)
            if name is not None:
                raise BadComponent(
                    f"the network computes {passed.hidden[0]} inside the autograd.Function {name}, where it cannot be "
                    "replaced in backward; pass the network without this function (checkpoints of torch.utils are fine)"
                )


def _functions_in(output: Tensor) -> Iterator[str]:
    """The names of the autograd.Functions that an output was made by, those of the suite aside."""
    nodes, seen = [output.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
        function = getattr(node, "_forward_cls", None)
        if function is not None and not function.__module__.startswith(OWN):
            yield function.__name__


class _Keeping:
    """Stands for the reentrant CheckpointFunction of torch."""

    @staticmethod
    def apply(function: Any, preserve: bool, *args: Any) -> Any:
        return function(*args)


def _keep(*args: Any, **named: Any) -> Iterator[None]:
    """Stands for the generators around a function that is checkpointed without reentrance."""
    yield


# torch has no switch for this. The names are those of 2.6 to 2.14; a name that a version lacks is passed over.
_CHECKPOINTS = {
    "CheckpointFunction": _Keeping,
    "_checkpoint_without_reentrant_generator": _keep,
    "_checkpoint_without_reentrant_generator_impl": _keep,
}
_lock = threading.Lock()
_kept: list[dict[str, Any]] = []  # what torch had, once for every context inside


@contextlib.contextmanager
def _without_checkpoints() -> Iterator[None]:
    """Inside, torch.utils.checkpoint calls its function and keeps all values."""
    home = torch.utils.checkpoint
    with _lock:
        _kept.append(_kept[-1] if _kept else {n: getattr(home, n) for n in _CHECKPOINTS if hasattr(home, n)})
        for name in _kept[-1]:
            setattr(home, name, _CHECKPOINTS[name])
    try:
        yield
    finally:
        with _lock:
            own = _kept.pop()
            for name, value in own.items() if not _kept else ():
                setattr(home, name, value)
