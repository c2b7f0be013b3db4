"""Activations that change without a change to the network."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from bench.guard import forward_pass
from bench.layers import softplus

_betas: contextvars.ContextVar[tuple[float, ...]] = contextvars.ContextVar("betas", default=())

# Activations with kinks, whose second derivative is zero: names of the functions and of their further parameters.
KINKED: dict[str, tuple[str, ...]] = {
    "relu": ("inplace",),
    "relu6": ("inplace",),
    "hardtanh": ("min_val", "max_val", "inplace"),
    "leaky_relu": ("negative_slope", "inplace"),
    "prelu": ("weight",),
}
# Functions that are activations in a network, and something else in the code of a method. A "gate" selects by a
# comparison, as where(z > 0, z, 0) and z * (z > 0) do.
INSIDE: dict[str, tuple[str, ...]] = {
    "rrelu": ("lower", "upper", "training", "inplace"),
    "threshold": ("threshold", "value", "inplace"),
    "clamp": ("min", "max"),
    "clamp_min": ("min",),
    "clamp_max": ("max",),
    "maximum": ("other",),
    "minimum": ("other",),
    "gate": (),
    "hardshrink": ("lambd",),
    "softshrink": ("lambd",),
    "hardsigmoid": ("inplace",),
    "abs": (),
}
# ReLU and its kin, in whatever form.
RECTIFIERS = frozenset({*KINKED, *INSIDE} - {"hardshrink", "softshrink", "hardsigmoid", "abs"})

_PARAMETERS = KINKED | INSIDE
_ALIASES = {
    **{"absolute": "abs", "clip": "clamp", "fmax": "maximum", "fmin": "minimum", "max": "maximum", "min": "minimum"},
    **dict.fromkeys(("multiply", "rmul", "imul"), "mul"),
    "log_sigmoid": "logsigmoid",
}
_GATES = ("where", "masked_fill", "mul")
_COMPARISONS = {
    **dict.fromkeys(("gt", "ge", "greater", "greater_equal"), 1),
    **dict.fromkeys(("lt", "le", "less", "less_equal"), -1),
}
_CASTS = frozenset({"to", "type", "type_as", "float", "double", "half", "bfloat16"})


def entered_betas() -> tuple[float, ...]:
    """The sharpnesses of the `softened` that are open, the outermost first."""
    return _betas.get()


class Mask(NamedTuple):
    """What made a mask: it is true where sign * (value - bound) > 0."""

    value: Tensor
    bound: Any
    sign: int
    version: int  # of the value, which may be overwritten later


@dataclass(frozen=True)
class Call:
    """A call of an activation. `is_single`: whether nothing but `given` depends on the images."""

    name: str
    given: Tensor
    options: dict[str, Any]
    is_single: bool = True


class Activations(TorchFunctionMode):
    """Hands every call of some functions of one input to `replace`: as module, function, method, in place or shared.

    The network itself does not change.
    """

    names = frozenset(KINKED)

    def __init__(self) -> None:
        super().__init__()
        self.masks = WeakTensorKeyDictionary()

    def replaces(self, call: Call) -> bool:
        """Whether `replace` is to see a call."""
        return call.name in self.names and call.is_single

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
        named, written = named or {}, getattr(func, "__name__", "")
        name = _ALIASES.get(written.strip("_"), written.strip("_"))
        if name in _COMPARISONS or name in _CASTS:
            result = self.call(func, args, named)
            self._note_mask(name, result, *args, *named.values())
            return result
        call = self._read(name, args, named)
        if call is None or not self.replaces(call):
            return self.call(func, args, named)
        given, options = call.given, call.options
        in_place = written == "__imul__" or (written.endswith("_") and not written.endswith("__"))
        in_place = in_place or options.get("inplace", False)
        if in_place and given is not (args[0] if args else named.get("input")):
            return self.call(func, args, named)
        passing = forward_pass()
        if passing is not None and passing.has_graph and not torch.is_grad_enabled():
            passing.hidden.append(name)

        def plain(start: Tensor) -> Tensor:
            start = start.clone() if in_place else start
            rest = {key: start if value is given else value for key, value in named.items()}
            return func(*(start if value is given else value for value in args), **rest)

        if not in_place:
            return self.finish(self.replace(call.name, given, options, plain))
        # On a copy, since the replacement may need its input in a backward pass.
        copy = given.clone()
        options = {key: copy if value is given else value for key, value in options.items()}
        return self.finish(given.copy_(self.replace(call.name, copy, options, plain)))

    def _note_mask(self, name: str, result: Any, first: Any, second: Any = None, *more: Any) -> None:
        """Remember what a comparison compared, and that a cast of a mask is still this mask."""
        if not isinstance(result, Tensor):
            return
        if name in _CASTS:
            if isinstance(first, Tensor) and first in self.masks:
                self.masks[result] = self.masks[first]
            return
        sign = _COMPARISONS[name]
        if not isinstance(first, Tensor) or (isinstance(second, Tensor) and _rank(second) > _rank(first)):
            first, second, sign = second, first, -sign
        if isinstance(first, Tensor) and first.is_floating_point():
            self.masks[result] = Mask(first, second, sign, first._version)

    def _read(self, name: str, args: Any, named: Any) -> Call | None:
        """What a function's name and arguments call, or None where it is no activation."""
        if name in _GATES:
            return self._read_gate(name, args, named)
        if name not in self.names:
            return None
        options = dict(zip(("input", *_PARAMETERS.get(name, ())), args, strict=False)) | named
        given, other = options.pop("input", None), options.get("other")
        if not isinstance(given, Tensor) or "out" in options:
            return None
        if name in ("maximum", "minimum"):
            if not isinstance(other, Tensor):  # a reduction
                return None
            if _rank(other) > _rank(given) or (given.grad_fn is not None and _depends_only_on(given, other)):
                given, options["other"] = other, given
        bounds = [options.get(key) for key in ("min", "max", "other")]
        return Call(name, given, options, all(_depends_only_on(bound, given) for bound in bounds))

    def _read_gate(self, name: str, args: Any, named: Any) -> Call | None:
        """Read where(mask, first, second), first.where(mask, second), second.masked_fill(mask, first), first * mask."""
        parts = [*args, *named.values()]
        place = next((i for i, part in enumerate(parts) if isinstance(part, Tensor) and part in self.masks), None)
        if place is None or len(parts) != (2 if name == "mul" else 3):
            return None
        value, bound, sign, version = self.masks[parts.pop(place)]
        if value._version != version:
            return None
        first, second = (*parts, 0.0)[:2] if name != "masked_fill" else reversed(parts)
        given = next((part for part in (first, second) if _is_same(part, value)), value)
        others = [part for part in (first, second) if part is not given]
        is_single = len(others) < 2 and all(_depends_only_on(part, given) for part in others)
        return Call("gate", given, {"first": first, "second": second, "bound": bound, "sign": sign}, is_single)


def _rank(tensor: Tensor) -> tuple[bool, int]:
    """The larger of two tensors is the input of a function, the other a constant."""
    return tensor.requires_grad, tensor.numel()


def _is_same(part: Any, value: Tensor) -> bool:
    """Whether a tensor is another one, or shares its numbers, as with `detach`."""
    if not isinstance(part, Tensor) or part.numel() != value.numel():
        return False
    return part is value or (part.data_ptr(), part.shape, part.stride()) == (
        value.data_ptr(), value.shape, value.stride(),
    )  # fmt: skip


def _depends_only_on(part: Any, given: Tensor) -> bool:
    """Whether a number or tensor is a constant, or made from `given` in one step, as 0.1 * z is."""
    if not isinstance(part, Tensor) or not part.requires_grad:
        return True
    return part.grad_fn is not None and {node for node, _ in part.grad_fn.next_functions if node is not None} == {
        given.grad_fn
    }


class Softened(Activations):
    """Replaces ReLU and its kin by sums of softplus; `replaced` counts the replacements."""

    names = frozenset({*KINKED, *INSIDE})

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.replaced = 0

    def replaces(self, call: Call) -> bool:
        is_random = call.name == "rrelu" and call.options.get("training", False)
        return call.name in KINKED or (forward_pass() is not None and call.name in self.names and not is_random)

    def replace(self, name: str, given: Tensor, options: dict[str, Any], plain: Callable[[Tensor], Tensor]) -> Tensor:
        self.replaced += 1
        if name == "relu":
            return self.soft(given)
        if name == "gate":
            return self.gate(given, **options)
        if name in ("maximum", "minimum"):
            sign = 1 if name == "maximum" else -1
            return options["other"] + sign * self.soft(sign * (given - options["other"]))
        if name.startswith(("relu6", "hardtanh", "clamp")):
            return self.between(given, *_bounds(name, options), plain)
        if name == "abs":
            return 2 * self.soft(given) - given
        if name == "hardsigmoid":
            return (self.soft(given + 3) - self.soft(given - 3)) / 6
        if name == "threshold":
            bound, value = options["threshold"], options["value"]
            return self.gate(given, given, value, bound, 1)
        if name.endswith("shrink"):
            width = options.get("lambd", 0.5)
            shrunk = self.soft(given - width) - self.soft(-given - width)
            if name == "softshrink":
                return shrunk
            return shrunk + width * (self.step(given - width) - self.step(-given - width))
        if name == "rrelu":
            slope = (options.get("lower", 1 / 8) + options.get("upper", 1 / 3)) / 2
        else:
            slope = options["weight"] if name == "prelu" else options.get("negative_slope", 0.01)
        if isinstance(slope, Tensor) and slope.numel() > 1:  # one for each channel
            slope = slope.view(-1, *(1 for _ in given.shape[2:]))
        return slope * given + (1 - slope) * self.soft(given)

    def soft(self, given: Tensor) -> Tensor:
        return softplus(given, self.beta)

    def step(self, given: Tensor) -> Tensor:
        return (self.beta * given).sigmoid()

    def between(self, given: Tensor, low: Any, high: Any, plain: Callable[[Tensor], Tensor]) -> Tensor:
        """A clamp. One that changes nothing in an image is no activation, but guards a norm or a range: it stays."""
        output = given if low is None else low + self.soft(given - low)
        output = output if high is None else output - self.soft(given - high)
        clamped = plain(given)
        if not given.dim():
            return output
        acts = (clamped != given).flatten(1).any(1) if given.dim() > 1 else clamped != given
        return torch.where(acts.view(-1, *(1 for _ in given.shape[1:])), output, clamped)

    def gate(self, given: Tensor, first: Any, second: Any, bound: Any, sign: int) -> Tensor:
        """Select `first` where sign * (given - bound) > 0, else `second`."""
        above = sign * (given - bound)
        if first is not given and second is not given:
            return second + self.step(above) * (first - second)
        if first is not given:
            above, first, second, sign = -above, second, first, -sign
        if isinstance(second, Tensor) and second.shape == given.shape and second.requires_grad:  # another branch
            return second + self.step(above) * (first - second)
        # Beside a constant c: the ramp of a ReLU, and the jump from c to the bound where they differ.
        return second + sign * self.soft(above) + (bound - second) * self.step(above)


def _bounds(name: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """The lowest and the highest value of a clamp, in one of its names; None for none."""
    if name == "relu6":
        return 0.0, 6.0
    if name == "hardtanh":
        return options.get("min_val", -1.0), options.get("max_val", 1.0)
    return options.get("min"), options.get("max")


@contextlib.contextmanager
def softened(beta: float) -> Iterator[Softened]:
    """Inside, ReLU is softplus, log(1 + exp(beta z)) / beta, in all its forms: module, function, method, in place.

    ReLU6, Hardtanh, LeakyReLU and PReLU become sums of softplus that converge to them as beta grows, and so do, in the
    networks that explainers and attacks run, clamps, maxima, thresholds, shrinks, absolute values and selections by a
    comparison. Other activations and the network itself do not change. A backward pass runs outside the mode: code that
    repeats a forward pass in it must enter the mode again.
    """
    token = _betas.set((*_betas.get(), beta))
    try:
        with Softened(beta) as mode:
            yield mode
    finally:
        _betas.reset(token)
