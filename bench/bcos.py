"""Layers that are linear with weights that depend on the input (B-cos), so that explainers can hold these weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

TINY = 1e-6  # added to squared lengths, and to cosines that have another power than 1, as in the authors' code


def scale(values: Tensor, factor: Tensor) -> Tensor:
    """The product of what a layer with fixed weights gives and a factor that depends on its input as well."""
    if has_torch_function((values, factor)):
        product: Tensor = handle_torch_function(scale, (values, factor), values, factor)
        return product
    return values * factor


def add_inverse(images: Tensor) -> Tensor:
    """Put the channels 1 - x after the channels x: (B, C, H, W) -> (B, 2 C, H, W).

    A black pixel is then no zero, which could contribute nothing.
    """
    if has_torch_function((images,)):
        channels: Tensor = handle_torch_function(add_inverse, (images,), images)
        return channels
    return torch.cat([images, 1 - images], 1)


class AddInverse(nn.Module):
    """`add_inverse` as a layer."""

    def forward(self, images: Tensor) -> Tensor:
        return add_inverse(images)


class BcosConv2d(nn.Conv2d):
    """A convolution of unit weights times |cos|^(b - 1), the cosine of the angle between a weight and its patch (Böhle,
    Fritz and Schiele, CVPR 2022). Of each `max_out` units in a row, the largest counts. It has no bias."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, b: float = 2.0, max_out: int = 1
    ) -> None:
        super().__init__(inputs, outputs * max_out, kernel, stride, padding=kernel // 2, bias=False)
        self.b, self.max_out = b, max_out

    def forward(self, input: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(self.weight, dim=(1, 2, 3), keepdim=True)
        values = self._conv_forward(input, self.weight / lengths, None)
        if self.max_out > 1:
            values = values.unflatten(1, (-1, self.max_out)).amax(2)
        if self.b == 1:
            return values
        side = self.kernel_size[0]
        squares = side**2 * F.avg_pool2d(input.square().sum(1, keepdim=True), side, self.stride, side // 2)
        # Not abs, which `softened` replaces: |z| z needs no smoothing.
        cosines = values * values.sign() / (squares + TINY).sqrt()
        return scale(values, cosines if self.b == 2 else (cosines + TINY) ** (self.b - 1))


class UncenteredNorm2d(nn.Module):
    """Batch norm that divides by the standard deviation, subtracts no mean and adds no bias, so that it is linear in
    eval mode (Böhle et al., TPAMI 2024)."""

    running_var: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.momentum, self.eps = momentum, eps

    def forward(self, maps: Tensor) -> Tensor:
        variance = self.running_var
        if self.training:
            variance = maps.var((0, 2, 3), correction=0)
            with torch.no_grad():
                self.running_var.lerp_(variance.to(self.running_var), self.momentum)
        return maps * (self.weight / (variance + self.eps).sqrt())[:, None, None]


class ClassScores(nn.Module):
    """Average maps of classes into logits, and add a constant that gives each class the probability 1 / K at zero."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.bias = -math.log(classes - 1)

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3)) + self.bias
