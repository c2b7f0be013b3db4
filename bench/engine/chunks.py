"""Functions of rows, applied in chunks that fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench import noise
from bench.engine.bars import counted
from bench.errors import EnvironmentProblem
from bench.gradients import CHUNK


def chunked(function: Callable[..., Any], *tensors: Tensor, seed: int, name: str, indices: Tensor) -> Any:
    """Apply a function of rows to tensors chunk by chunk, each chunk under `noise.rows`.

    Returns a tensor, or a tuple of tensors where the function does. Halves the chunks when memory runs out.
    """
    start, total = 0, len(tensors[0])
    size = min(total, max(1, CHUNK.get(tensors[0].device.type, CHUNK["cpu"]) // tensors[0][0].numel()))
    results: list[tuple[Tensor, ...]] = []
    is_tuple = False
    with counted(total, name, "image") as add:
        while start < total:
            part = slice(start, start + size)
            try:
                with noise.rows(seed, name, indices[part]):
                    result = function(*(tensor[part] for tensor in tensors))
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                if size == 1:
                    raise EnvironmentProblem(
                        f"{name}: one image does not fit into the device's memory; use device cpu, or smaller images"
                    ) from None
                size = (size + 1) // 2
                continue
            is_tuple = isinstance(result, tuple)
            results.append(result if is_tuple else (result,))
            add(min(size, total - start))
            start += size
    joined = tuple(torch.cat(parts) for parts in zip(*results, strict=True))
    return joined if is_tuple else joined[0]


def _is_out_of_memory(error: MemoryError | RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
