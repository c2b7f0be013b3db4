"""Activations that change without a change to the network."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from bench.layers import softplus

_betas: contextvars.ContextVar[tuple[float, ...]] = contextvars.ContextVar("betas", default=())

# Activations with kinks, whose second derivative is zero: names of the functions and of their further parameters.
KINKED = {
    "relu": ("inplace",),
    "relu6": ("inplace",),
    "hardtanh": ("min_val", "max_val", "inplace"),
    "leaky_relu": ("negative_slope", "inplace"),
    "prelu": ("weight",),
}


def entered_betas() -> tuple[float, ...]:
    """The sharpnesses of the `softened` that are open, the outermost first."""
    return _betas.get()


class Activations(TorchFunctionMode):
    """Hands every call of some functions of one input to `replace`: as module, function, method, in place or shared.

    The network itself does not change.
    """

    names = frozenset(KINKED)

    def replace(self, name: str, given: Tensor, options: dict[str, Any], plain: Callable[[Tensor], Tensor]) -> Tensor:
        """The result that replaces `plain(given)`, the function as the network calls it with these options."""
        raise NotImplementedError

    def finish(self, output: Tensor) -> Tensor:
        """The output that the network receives in the end."""
        return output

    def call(self, func: Any, args: Any, named: Any) -> Any:
        """The result of any other function."""
        return func(*args, **named)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        named, name = named or {}, getattr(func, "__name__", "").rstrip("_")
        if name not in self.names:
            return self.call(func, args, named)
        options = dict(zip(("input", *KINKED.get(name, ())), args, strict=False)) | named
        given = options.pop("input")

        in_place = func.__name__.endswith("_") or options.get("inplace", False)

        def plain(given: Tensor) -> Tensor:
            rest = {key: value for key, value in named.items() if key != "input"}
            return func(given.clone() if in_place else given, *args[1:], **rest)

        if not in_place:
            return self.finish(self.replace(name, given, options, plain))
        # On a copy, since the replacement may need its input in a backward pass.
        return self.finish(given.copy_(self.replace(name, given.clone(), options, plain)))


class Softened(Activations):
    """Replaces ReLU and its kin by sums of softplus; `replaced` counts the replacements."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.replaced = 0

    def replace(self, name: str, given: Tensor, options: dict[str, Any], plain: Callable[[Tensor], Tensor]) -> Tensor:
        self.replaced += 1
        if name in ("relu6", "hardtanh"):
            low, high = (0.0, 6.0) if name == "relu6" else (options.get("min_val", -1.0), options.get("max_val", 1.0))
            return low + softplus(given - low, self.beta) - softplus(given - high, self.beta)
        if name == "relu":
            return softplus(given, self.beta)
        slope = options["weight"] if name == "prelu" else options.get("negative_slope", 0.01)
        if isinstance(slope, Tensor) and slope.numel() > 1:  # one for each channel
            slope = slope.view(-1, *(1 for _ in given.shape[2:]))
        return slope * given + (1 - slope) * softplus(given, self.beta)


@contextlib.contextmanager
def softened(beta: float) -> Iterator[Softened]:
    """Inside, ReLU is softplus, log(1 + exp(beta z)) / beta, in all its forms: module, function, method, in place.

    ReLU6, Hardtanh, LeakyReLU and PReLU become sums of softplus that converge to them as beta grows. Other activations
    and the network itself do not change. A backward pass runs outside the mode: code that repeats a forward pass in it
    must enter the mode again.
    """
    token = _betas.set((*_betas.get(), beta))
    try:
        with Softened(beta) as mode:
            yield mode
    finally:
        _betas.reset(token)
