"""Where the channels of feature maps are: followed from the functions that fix it, and never guessed from shapes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

# Functions that have the channels on the second axis.
SECOND = frozenset(
    {
        "conv1d", "conv2d", "conv_transpose2d", "batch_norm", "group_norm", "instance_norm", "local_response_norm",
        "max_pool2d", "max_pool2d_with_indices", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d",
        "lp_pool2d", "interpolate", "pixel_shuffle", "pixel_unshuffle",
    }
)  # fmt: skip
# Functions that have them on the last axis.
LAST = frozenset({"linear", "layer_norm", "rms_norm"})
# Functions that leave each axis where it is, and may change its length.
KEEP = frozenset({"mean", "sum", "amax", "amin", "pad", "getitem", "narrow", "cat", "concat", "chunk", "split", "glu"})
RESHAPE = frozenset({"view", "reshape", "flatten", "unflatten"})
# Functions that may mix axes although the shape stays.
MIX = frozenset({"matmul", "bmm", "einsum", "get", "rot90"})


class Layouts(TorchFunctionMode):
    """Follows which axis of a network's tensors has the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.axes = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor) -> str | None:
        """The layout of feature maps with four axes, "nchw" or "nhwc"; None where nothing says it."""
        return {1: "nchw", 3: "nhwc"}.get(self.axes.get(tensor, 0))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        named = named or {}
        result = func(*args, **named)
        for output in _tensors(result):
            axis = self._follow(getattr(func, "__name__", "").strip("_"), args, named, output)
            if axis is None:
                self.axes.pop(output, None)  # it may be an earlier tensor, written into
            else:
                self.axes[output] = axis
        return result

    def _follow(self, name: str, args: Any, named: Any, output: Tensor) -> int | None:
        """The axis of the channels of a function's output, or None."""
        if name in SECOND:
            return 1
        if name in LAST:
            norm = args[1] if len(args) > 1 else named.get("normalized_shape", ())
            if name == "linear" or len(norm) == 1:
                return output.ndim - 1
        given = list(_tensors((args, named)))
        if name in RESHAPE or name in _ORDERS:
            axis = self.axes.get(given[0]) if given else None
            if axis is None:
                return None
            if name in RESHAPE:
                return _find_axis(given[0].shape, axis, output.shape)
            order = _ORDERS[name](given[0].ndim, args[1:] or tuple(named.values()))
            rest = [each for each in order if each != axis]
            # Rows and columns may not change places. With more axes than four, these are windows.
            return order.index(axis) if output.ndim != 4 or rest == sorted(rest) else None
        found = {
            self.axes[t]
            for t in given
            if t in self.axes and (t.shape == output.shape or (name in KEEP and t.ndim == output.ndim))
        }
        return found.pop() if len(found) == 1 and name not in MIX else None


def _permute(ndim: int, dims: tuple[Any, ...]) -> list[int]:
    dims = tuple(dims[0]) if len(dims) == 1 else dims
    return [each % ndim for each in dims]


def _transpose(ndim: int, dims: tuple[Any, ...]) -> list[int]:
    order, (first, second) = list(range(ndim)), dims
    order[first], order[second] = order[second], order[first]
    return order


def _move(ndim: int, dims: tuple[Any, ...]) -> list[int]:
    source, target = ([each % ndim for each in (dim if isinstance(dim, tuple | list) else (dim,))] for dim in dims)
    order = [each for each in range(ndim) if each not in source]
    for at, each in sorted(zip(target, source, strict=True)):
        order.insert(at, each)
    return order


# For each axis of the output of these functions, the axis of the input: (number of axes, further arguments).
_ORDERS = {
    "permute": _permute, "transpose": _transpose, "swapaxes": _transpose, "swapdims": _transpose, "movedim": _move,
    "moveaxis": _move,
}  # fmt: skip


def _find_axis(before: tuple[int, ...], axis: int, after: tuple[int, ...]) -> int | None:
    """Where an axis ends up when a tensor gets another shape, or None where it is split or merged."""
    ahead = math.prod(before[:axis])
    places = (i for i, size in enumerate(after) if size == before[axis] and math.prod(after[:i]) == ahead)
    return next(places, None)


def _tensors(values: Any) -> Iterator[Tensor]:
    """The tensors with more than two axes among arguments or results."""
    if isinstance(values, Tensor):
        if values.ndim > 2:
            yield values
    elif isinstance(values, tuple | list | dict):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _tensors(value)


def grid(count: int, height: int, width: int) -> tuple[int, int] | None:
    """Rows and columns of the patches of an image that leave the fewest of `count` tokens over, or None."""
    sizes = [(height // side, width // side) for side in range(1, min(height, width) + 1)]
    fitting = [(rows, columns) for rows, columns in sizes if rows * columns <= count]
    return max(fitting, key=lambda size: size[0] * size[1], default=None)
