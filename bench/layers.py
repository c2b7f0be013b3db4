"""Softplus, convolution and max-pooling with derivatives of every order, at the price of the passes these need."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary

LINEAR = 20.0  # as in torch, softplus is the identity where beta z is larger
BLOCK = 2**16  # numbers of a block, which stays in a core's cache

_convolution = torch.ops.aten.convolution
_convolution_backward = torch.ops.aten.convolution_backward


def softplus(input: Tensor, beta: float = 1.0) -> Tensor:
    """log(1 + exp(beta z)) / beta, element by element, and z where beta z > 20: torch's softplus, with its derivatives.

    The second derivative takes half the passes over the numbers that torch's takes. On a processor with AVX-512 the
    value comes from exp and log, since torch computes the logarithm of 1 + x there number by number.
    """
    if has_torch_function_unary(input):
        return handle_torch_function(softplus, (input,), input, beta)
    if torch._C._are_functorch_transforms_active():  # these know torch's own alone
        return F.softplus(input, beta)
    return _Softplus.apply(input, beta)


class Softplus(nn.Softplus):
    """torch's module, computed by `softplus`."""

    def forward(self, input: Tensor) -> Tensor:
        return softplus(input, self.beta)


class _Softplus(Function):
    @staticmethod
    def forward(context: Any, input: Tensor, beta: float) -> Tensor:
        context.save_for_backward(input)
        context.beta = beta
        by_blocks = input.device.type == "cpu" and input.dtype != torch.float64 and _is_log1p_slow()
        return softplus_by_blocks(input, beta) if by_blocks else F.softplus(input, beta, LINEAR)

    @staticmethod
    def backward(context: Any, above: Tensor) -> tuple[Tensor, None]:
        return _Slope.apply(above, *context.saved_tensors, context.beta), None


class _Slope(Function):
    """above * sigmoid(beta z)."""

    @staticmethod
    def forward(context: Any, above: Tensor, input: Tensor, beta: float) -> Tensor:
        context.save_for_backward(above, input)
        context.beta = beta
        return torch.ops.aten.softplus_backward(above, input, beta, LINEAR)

    @staticmethod
    def backward(context: Any, above: Tensor) -> tuple[Tensor, Tensor, None]:
        outer, given = context.saved_tensors
        # 1 - sigmoid(beta z), and zero where softplus is the identity.
        wide = given.to(torch.promote_types(given.dtype, torch.float32))  # half precision rounds once, at the end
        rest = F.threshold(wide * -context.beta, -LINEAR, -math.inf).sigmoid()
        first = _Slope.apply(above, given, context.beta)
        if torch.is_grad_enabled():
            second = context.beta * above * outer * rest * (1 - rest)
        else:
            second = torch.ops.aten.sigmoid_backward((above * outer).to(rest.dtype), rest).mul_(context.beta)
        return first, second.to(given.dtype), None


@functools.cache
def _is_log1p_slow() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def softplus_by_blocks(input: Tensor, beta: float) -> Tensor:
    """Softplus from exp and log, without a graph: max(z, 0) + log(1 + u) / beta, with u = exp(-beta |z|).

    The rounding of 1 + u costs the logarithm of a small u its digits; (u - ((1 + u) - 1)) / (1 + u) gives them back.
    """
    values = input if _is_dense(input) else input.contiguous()
    output = torch.empty_like(values)
    size = min(BLOCK * torch.get_num_threads(), values.numel())
    u, w, lost = (torch.empty(size, dtype=torch.float32) for _ in range(3))
    for given, result in zip(_flat(values).split(size or 1), _flat(output).split(size or 1), strict=True):
        if len(given) < size:
            u, w, lost = u[: len(given)], w[: len(given)], lost[: len(given)]
        given = given.float()
        torch.abs(given, out=u).mul_(-beta).exp_()
        torch.add(u, 1, out=w)
        torch.sub(u, torch.sub(w, 1, out=lost), out=lost)
        torch.log(w, out=u).addcdiv_(lost, w)
        torch.add(torch.clamp(given, min=0, out=w), u, alpha=1 / beta, out=result)
    return output


def _is_dense(tensor: Tensor) -> bool:
    return tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))


def _flat(tensor: Tensor) -> Tensor:
    """The numbers of a dense tensor in the order of memory."""
    return tensor.as_strided((tensor.numel(),), (1,))


class CheapSecondDerivatives(TorchFunctionMode):
    """Inside, the second derivatives of convolutions and of max-pooling cost what they must.

    The double backward of torch's own convolution takes the derivative by the weights even where these are frozen, and
    for that takes the batch for channels and the gradient for a kernel as large as the image. Its pooling leaves
    channels last, and every layer after it converts.

    Under autocast to bfloat16 on a CPU without instructions for it, convolutions and linear layers multiply the rounded
    numbers in float32: the same results as elsewhere, a hundred times faster than torch's.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        named = named or {}
        if func in (F.conv2d, F.linear) and _lacks_bfloat16() and _autocasts_to_bfloat16():
            with torch.autocast("cpu", enabled=False):
                args, named = _round(args), dict(zip(named, _round(named.values()), strict=True))
                return REPLACED.get(func, func)(*args, **named).bfloat16()
        return REPLACED.get(func, func)(*args, **named)


@functools.cache
def _lacks_bfloat16() -> bool:
    return not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _autocasts_to_bfloat16() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def _round(values: Iterable[Any]) -> list[Any]:
    return [v.bfloat16().float() if isinstance(v, Tensor) else v for v in values]


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    has_graph = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (input, weight, bias))
    if not has_graph or input.ndim != 4 or isinstance(padding, str) or torch._C._are_functorch_transforms_active():
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    tensors, kind = [input, weight, bias], input.device.type
    if torch.is_autocast_enabled(kind):
        half = torch.get_autocast_dtype(kind)
        tensors = [None if tensor is None else tensor.to(half) for tensor in tensors]
    pairs = [_pair(n) for n in (stride, padding, dilation)]
    return _Convolution.apply(*tensors, (*pairs, False, (0, 0), groups))


class _Convolution(Function):
    """Convolution, and its gradients by input and by weight, are linear in each of two arguments: each has the other
    two as derivatives."""

    @staticmethod
    def forward(context: Any, input: Tensor, weight: Tensor, bias: Tensor | None, geometry: Any) -> Tensor:
        context.save_for_backward(input, weight)
        context.geometry = geometry
        return _convolution(input, weight, bias, *geometry)

    @staticmethod
    def backward(context: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = context.saved_tensors
        by_input, by_weight, by_bias = needs = _needs(context, 3)
        if not torch.is_grad_enabled():
            bias = [len(weight)] if by_bias else None
            return *_convolution_backward(above, images, weight, bias, *context.geometry, needs), None
        return (
            _ByInput.apply(above, weight, images, context.geometry) if by_input else None,
            _ByWeight.apply(above, images, weight, context.geometry) if by_weight else None,
            above.sum((0, 2, 3)) if by_bias else None,
            None,
        )


class _ByInput(Function):
    @staticmethod
    def forward(context: Any, above: Tensor, weight: Tensor, like: Tensor, geometry: Any) -> Tensor:
        context.save_for_backward(above, weight)
        context.geometry = geometry
        return _convolution_backward(above, like, weight, None, *geometry, (True, False, False))[0]

    @staticmethod
    def backward(context: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        above, weight = context.saved_tensors
        by_above, by_weight = _needs(context, 2)
        return (
            _Convolution.apply(outer, weight, None, context.geometry) if by_above else None,
            _ByWeight.apply(above, outer, weight, context.geometry) if by_weight else None,
            None,
            None,
        )


class _ByWeight(Function):
    @staticmethod
    def forward(context: Any, above: Tensor, input: Tensor, like: Tensor, geometry: Any) -> Tensor:
        context.save_for_backward(above, input)
        context.geometry = geometry
        return _convolution_backward(above, input, like, None, *geometry, (False, True, False))[1]

    @staticmethod
    def backward(context: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        above, images = context.saved_tensors
        by_above, by_input = _needs(context, 2)
        return (
            _Convolution.apply(images, outer, None, context.geometry) if by_above else None,
            _ByInput.apply(above, outer, images, context.geometry) if by_input else None,
            None,
            None,
        )


def _max_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    if return_indices or input.ndim != 4 or not (input.requires_grad and torch.is_grad_enabled()):
        return F.max_pool2d(  # type: ignore[call-overload]
            input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
        )
    pairs = [_pair(n) for n in (kernel_size, stride or kernel_size, padding, dilation)]
    return _MaxPool.apply(input, (*pairs, ceil_mode))


class _MaxPool(Function):
    """Picks a pixel of each window; the derivative puts numbers back there, and its derivative picks again."""

    @staticmethod
    def forward(context: Any, input: Tensor, geometry: Any) -> Tensor:
        output, places = torch.ops.aten.max_pool2d_with_indices(input, *geometry)
        context.save_for_backward(input, places)
        context.geometry = geometry
        return output

    @staticmethod
    def backward(context: Any, above: Tensor) -> tuple[Tensor, None]:
        return _PutBack.apply(above, *context.saved_tensors, context.geometry), None


class _PutBack(Function):
    @staticmethod
    def forward(context: Any, above: Tensor, like: Tensor, places: Tensor, geometry: Any) -> Tensor:
        context.save_for_backward(like, places)
        context.geometry = geometry
        return torch.ops.aten.max_pool2d_with_indices_backward(above, like, *geometry, places)

    @staticmethod
    def backward(context: Any, outer: Tensor) -> tuple[Tensor, None, None, None]:
        return _Pick.apply(outer, *context.saved_tensors, context.geometry), None, None, None


class _Pick(Function):
    @staticmethod
    def forward(context: Any, values: Tensor, like: Tensor, places: Tensor, geometry: Any) -> Tensor:
        context.save_for_backward(like, places)
        context.geometry = geometry
        if places.is_contiguous():
            return values.flatten(2).gather(2, places.flatten(2)).view_as(places)
        # The same with channels last, where flatten copies nothing.
        rows, chosen = (t.permute(0, 2, 3, 1) for t in (values, places))
        return rows.flatten(1, 2).gather(1, chosen.flatten(1, 2)).view_as(chosen).permute(0, 3, 1, 2)

    @staticmethod
    def backward(context: Any, above: Tensor) -> tuple[Tensor, None, None, None]:
        return _PutBack.apply(above, *context.saved_tensors, context.geometry), None, None, None


REPLACED: dict[Any, Callable[..., Any]] = {F.conv2d: _conv2d, F.max_pool2d: _max_pool2d}


def _pair(numbers: Any) -> tuple[int, ...]:
    return (numbers, numbers) if isinstance(numbers, int) else tuple(numbers)


def _needs(context: Any, count: int) -> list[bool]:
    """Which of a function's first inputs this backward pass wants gradients of.

    `needs_input_grad` says which could have one: in a gradient by the images, all weights too.
    """
    needs = list(context.needs_input_grad[:count])
    for place, (node, _) in enumerate(context.next_functions[:count]):
        if needs[place]:
            try:
                needs[place] = torch._C._will_engine_execute_node(node)
            except RuntimeError:  # a leaf, for which the pass was asked
                needs[place] = True
    return needs
