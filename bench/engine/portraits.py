"""Networks and data as they were: whether somebody changed them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bench.components import Data

SMALL = 2**24  # bytes of data that are read again after every call


class Portrait:
    """A network as it was: its modules, their attributes and hooks, and copies of its tensors."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.modules = [(name, module, type(module), _attributes(module)) for name, module in network.named_modules()]
        self.tensors = {name: (tensor, tensor.detach().clone()) for name, tensor in _tensors(network)}

    def find_changes(self) -> list[str]:
        """What is different now, in words."""
        now = dict(self.network.named_modules())
        if list(now.values()) != [module for _, module, _, _ in self.modules]:
            return ["the modules of the network"]
        for name, module, cls, before in self.modules:
            about = f"module {name} of the network" if name else "the network"
            if type(module) is not cls:
                return [f"the class of {about}"]
            attributes = _attributes(module)
            for part in before | attributes:
                if not _is_same(before.get(part), attributes.get(part)):
                    return [f"{part} of {about}"]
        return self.find_tensors()

    def find_tensors(self) -> list[str]:
        """A tensor that is different now."""
        tensors = dict(_tensors(self.network))
        for name, (tensor, copy) in self.tensors.items():
            if tensors.get(name) is not tensor or not _is_equal(tensor, copy):
                return [f"the tensor {name} of the network"]
        return []


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights, buffers, and tensors that are neither."""
    yield from network.named_parameters()
    yield from network.named_buffers()
    for name, module in network.named_modules():
        for part, value in vars(module).items():
            if isinstance(value, Tensor):
                yield f"{name}.{part}".lstrip("."), value


def _is_equal(tensor: Tensor, copy: Tensor) -> bool:
    with torch.no_grad():
        return tensor.shape == copy.shape and tensor.dtype == copy.dtype and _bits_equal(tensor, copy)


def _bits_equal(tensor: Tensor, copy: Tensor) -> bool:
    return torch.equal(tensor, copy) or torch.equal(tensor.nan_to_num(), copy.nan_to_num())


def _attributes(module: nn.Module) -> dict[str, Any]:
    """What decides how a module computes, besides its tensors: plain values, functions of its own, and hooks.

    Other attributes may be what a network remembers between passes.
    """
    found: dict[str, Any] = {}
    for name, value in vars(module).items():
        if name.endswith("_hooks") and isinstance(value, dict):
            if value:
                found[name] = tuple(value.values())
        elif isinstance(value, bool | int | float | str | tuple) or callable(value):
            found[name] = value
    for name, weight in module.named_parameters(recurse=False):
        hooks = (weight._backward_hooks, getattr(weight, "_post_accumulate_grad_hooks", None))
        if any(hooks):
            found[f"hooks of {name}"] = tuple(tuple((each or {}).values()) for each in hooks)
    return found


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return one is other or (type(one) is type(other) and isinstance(one, bool | int | float | str) and one == other)


class Print:
    """The fingerprint of data that components are handed."""

    def __init__(self, data: Data) -> None:
        parts = (data.images, data.labels, data.object_masks, data.gaze, data.indices)
        self.tensors = [part for part in parts if isinstance(part, Tensor)]
        self.versions = self._read_versions()
        self.sum = self._compute_sum()
        self.is_small = sum(tensor.nbytes for tensor in self.tensors) <= SMALL

    def _read_versions(self) -> list[int]:
        return [-1 if tensor.is_inference() else tensor._version for tensor in self.tensors]

    def _compute_sum(self) -> bytes:
        found = hashlib.sha256()
        for tensor in self.tensors:
            found.update(tensor.detach().cpu().contiguous().numpy().data)
        return found.digest()

    def has_changed(self, was_handed: bool) -> bool:
        """Whether the data differ. A large set that was not handed out is not read again."""
        if self._read_versions() != self.versions:
            return True
        return (was_handed or self.is_small) and self._compute_sum() != self.sum
