"""Reads checkpoints, finds a network's state dict in them, whatever lies around it, and loads it."""

from __future__ import annotations

import pickle
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from bench.errors import BadValue, BenchError, EnvironmentProblem, quote_error
from bench.files import check_file
from bench.networks import Normalised, load_tensors

Keys = tuple[str, ...]

# What DataParallel, AveragedModel, FSDP and torch.compile put into names, and what AveragedModel counts.
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module"})
COUNTER = "n_averaged"
# Counters of batches are newer than many a file, and nothing in eval mode reads them.
OPTIONAL = "num_batches_tracked"


def place(network: nn.Module, path: Path, any_classes: bool = False) -> None:
    """Load the tensors of a file into a network. Raises BadValue with the first difference where they do not fit.

    With `any_classes`, the last layer stays as it is where the file's differs in its number of classes alone.
    """
    tensors = read_checkpoint(path)
    for part in [network, network.network] if isinstance(network, Normalised) else [network]:
        expected = part.state_dict()
        state = find_state(tensors, expected, path)
        missing = find_missing(state, expected)
        if not missing:
            break
    if missing:
        raise BadValue(f"weights {path} lack {missing}; are they those of another model?")
    place_tensors(part, {**expected, **state}, f"weights {path}", any_classes)


def place_tensors(network: nn.Module, tensors: Mapping[str, Tensor], about: str, any_classes: bool = False) -> None:
    """Load tensors by the names of a network's own. Raises BadValue, with `about` in front, where they do not fit.

    With `any_classes`, the last layer stays as it is where only its number of classes differs.
    """
    kept = _find_head(tensors, network.state_dict()) if any_classes else {}
    load_tensors(network, {**tensors, **kept}, about)


def _find_head(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The expected tensors of the one layer whose shapes differ in their first size alone; none where others differ."""
    other = {n: expected[n] for n, tensor in state.items() if n in expected and tensor.shape != expected[n].shape}
    layers = {name.rpartition(".")[0] for name in other}
    is_head = len(layers) == 1 and all(state[name].shape[1:] == tensor.shape[1:] for name, tensor in other.items())
    return other if is_head else {}


def read_checkpoint(path: Path) -> dict[Keys, Tensor]:
    """Read the tensors of a file, each with the keys that lead to it.

    Raises EnvironmentProblem where the file cannot be read, BadValue where it contains no tensors with names, or code.
    """
    try:
        check_file(path)
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise EnvironmentProblem(f"weights {path} cannot be read ({error.strerror}); check the path") from None
    try:
        # Whatever torch warns of in an odd file ends in an error below.
        with warnings.catch_warnings(action="ignore"):
            if start[8:] == b"{":
                content: Any = safetensors.torch.load_file(path)
            else:
                content = torch.load(path, map_location="cpu", weights_only=True)
            tensors = dict(_list_tensors(content))
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower():
            raise _damaged(path, error) from None
        raise BadValue(
            f"weights {path} contain pickled objects, which could run code; save the state dict alone, best with "
            "safetensors.torch.save_file"
        ) from None
    except Exception as error:  # a damaged pickle may raise anything: struct.error, IndexError, ...
        if "torchscript" in str(error).lower():
            raise BadValue(
                f"weights {path} are a TorchScript program; save the state_dict() of torch.jit.load of it"
            ) from None
        raise _damaged(path, error) from None
    if not tensors:
        keys = f"; they contain {', '.join(map(str, content))[:100]}" if isinstance(content, Mapping) else ""
        raise BadValue(f"weights {path} contain no state dict: names and tensors, perhaps under 'state_dict'{keys}")
    return tensors


def _damaged(path: Path, error: Exception) -> BenchError:
    return EnvironmentProblem(f"weights {path} are damaged, or not a state dict ({quote_error(error)})")


def _list_tensors(content: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Tensor]]:
    is_named = isinstance(content, Mapping)
    if is_named or isinstance(content, list | tuple):
        for key, value in content.items() if is_named else enumerate(content):
            if isinstance(value, Tensor) and is_named:
                yield (*keys, str(key)), value
            else:
                yield from _list_tensors(value, (*keys, str(key)))


def find_state(tensors: Mapping[Keys, Tensor], expected: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Find the tensors of a state dict with the expected names, below any keys and behind any beginning of names.

    Returns the most complete one; some of its names are missing where none is complete. Raises BadValue where several
    are complete and differ, or where tensors without a use lie beside the complete one.
    """
    wrappers = WRAPPERS - {part for name in expected for part in name.split(".")}
    named = {
        tuple(part for part in ".".join(keys).split(".") if part not in wrappers): (keys, tensor)
        for keys, tensor in tensors.items()
        if keys[-1] != COUNTER
    }
    needed = {name for name in expected if not name.endswith(OPTIONAL)}
    starts = Counter(
        parts[:cut] for parts in named for cut in range(len(parts)) if ".".join(parts[cut:]) in needed
    ).most_common()
    if not starts:
        return {}

    def take(start: Keys) -> dict[str, tuple[Keys, Tensor]]:
        every = {name: named.get((*start, *name.split("."))) for name in expected}
        return {name: entry for name, entry in every.items() if entry}

    complete = [start for start, count in starts if count == len(needed)]
    best, *others = map(take, complete or [starts[0][0]])
    for other in others:
        if not all(torch.equal(best[name][1], other[name][1]) for name in needed):
            places = " and ".join(repr(".".join(start)) for start in complete)
            raise BadValue(
                f"weights {path} contain {len(complete)} networks that fit, under {places}, and they differ; save the "
                "state dict of one alone"
            )
    if complete:
        used = {keys for each in (best, *others) for keys, _ in each.values()}
        beside = {keys[:-1] for keys in used}
        unknown = [".".join(keys) for keys, _ in named.values() if keys[:-1] in beside and keys not in used]
        if unknown:
            raise BadValue(f"weights {path} have an unknown {_count(unknown)}; are they those of another model?")
    return {name: tensor for name, (_, tensor) in best.items()}


def find_missing(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Name the first expected tensor that a state dict lacks, and say how many more; "" where it lacks none."""
    return _count([name for name in expected if name not in state and not name.endswith(OPTIONAL)])


def _count(names: list[str]) -> str:
    return "".join(names[:1]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")
