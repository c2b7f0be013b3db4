"""Load weights trained elsewhere."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

import bench


@dataclass(frozen=True)
class Weights(bench.Defense):
    """Train nothing: load the network's weights from a file, whatever defense they come from.

    The file is in safetensors format, or a state dict saved by torch, of which only tensors are read. The state dict
    may lie under the key `state_dict`, and its names may begin with `module.`. Names are those of the model's network,
    or of the whole model with its mean and std. The content of the file is part of the identity.
    """

    name = "weights"
    trains = False
    examples = ()
    path: Path = bench.param(help="the file")

    def train(self, fit: bench.Fit) -> nn.Module:
        network = fit.fresh()
        place(network, tensors(self.path), self.path)
        return network


def tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file by name.

    Raises EnvironmentProblem where it cannot be read, BadValue where it contains more than tensors.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise bench.EnvironmentProblem(f"weights {path} cannot be read ({error.strerror}); check the path") from None
    try:
        # Whatever torch warns of in an odd file ends in an error below.
        with warnings.catch_warnings(action="ignore"):
            if start[8:] == b"{":
                return safetensors.torch.load_file(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower():
            raise _damaged(path, error) from None
        raise bench.BadValue(
            f"weights {path} contain pickled objects, which could run code; save the state dict alone, best with "
            "safetensors.torch.save_file"
        ) from None
    except Exception as error:  # a damaged pickle may raise anything: struct.error, IndexError, ...
        raise _damaged(path, error) from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise bench.BadValue(f"weights {path} contain no state dict: names and tensors, perhaps under 'state_dict'")
    return {str(name): tensor for name, tensor in state.items()}


def place(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors into a network. Raises BadValue with the first difference where they do not fit."""
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    whole = network.state_dict()
    inner = network if set(state) & {"mean", "std"} or not isinstance(network, bench.Normalised) else network.network
    expected = whole if inner is network else inner.state_dict()
    # Counters of batches are newer than many a file, and nothing in eval mode reads them.
    missing = [n for n in expected if n not in state and not n.endswith("num_batches_tracked")]
    unknown = [n for n in state if n not in expected]
    for names, what in ((missing, "lack"), (unknown, "have an unknown")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise bench.BadValue(f"weights {path} {what} {names[0]}{more}; are they those of another model?")
    for name, tensor in expected.items():
        if name in state and state[name].shape != tensor.shape:
            raise bench.BadValue(
                f"weights {path}: {name} is {tuple(state[name].shape)}, must be {tuple(tensor.shape)} for this model "
                "and number of classes"
            )
        if name in state and tensor.is_floating_point():
            given = state[name]
            if not given.is_floating_point() or given.layout != torch.strided or given.is_meta:
                raise bench.BadValue(
                    f"weights {path}: {name} has type {given.dtype}, must be plain floats; are they quantised?"
                )
            if not given.to(tensor.dtype).isfinite().all():
                raise bench.BadValue(f"weights {path}: {name} contains NaN or infinity in {tensor.dtype}")
    inner.load_state_dict(state, strict=False)


def _damaged(path: Path, error: Exception) -> bench.BenchError:
    return bench.EnvironmentProblem(
        f"weights {path} are damaged, or not a state dict ({' '.join(str(error).split())[:120]})"
    )
