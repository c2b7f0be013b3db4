"""The budget of an attack."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from bench import noise
from bench.errors import BadValue
from bench.networks import HALF


@dataclass(frozen=True)
class Ball:
    """The images within eps of the clean one in a norm, in pixel units of [0, 1]."""

    norm: Literal["linf", "l2"]
    eps: Fraction

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise BadValue(f"norm {self.norm!r}: choose linf or l2")
        if not isinstance(self.eps, int | float | Fraction):
            raise BadValue(f"eps {self.eps!r} is not a number; give a Fraction such as Fraction(8, 255)")
        # No two images are as far apart in l2 as a million, whatever their size.
        if not 0 <= self.eps <= (1 if self.norm == "linf" else 10**6):
            raise BadValue(
                f"eps {self.eps} is impossible: budgets are in pixel units of [0, 1]; write a fraction such as 8/255 "
                "(a budget in units of the normalised image, times the std of its pixels)"
            )

    def __str__(self) -> str:
        return f"{self.norm}:{self.eps}"

    def project(self, images: Tensor, origin: Tensor) -> Tensor:
        """The nearest images in the ball around `origin`, clipped to [0, 1], which leaves none outside the ball."""
        if origin.dtype in HALF:
            return self._round(self.project(images.double(), origin.double()), origin)
        eps = float(self.eps)
        if self.norm == "linf":
            inside = torch.minimum(torch.maximum(images, origin - eps), origin + eps)
        else:
            change = images - origin
            length = change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            inside = torch.where(length > eps, origin + change * (eps / length.clamp(min=1e-12)), images)
        return inside.clamp(0, 1)

    def _round(self, images: Tensor, origin: Tensor) -> Tensor:
        """Round images in the ball and in [0, 1] to the half precision of `origin`, so that none leaves the ball.

        Numbers are rounded towards the origin, and in an l2 ball those that lose most away from it, while they fit.
        """
        start, change = origin.double(), images - origin.double()
        near = images.abs().to(origin.dtype)  # no zero with a sign
        outwards = (near.double() - start).abs() > change.abs()
        inner = torch.where(outwards, _step(near, origin), near)
        if self.norm == "linf":
            return inner
        outer = torch.where(images == inner.double(), inner, _step(inner, images.to(torch.float32)))
        kept, added = ((value.double() - start).flatten(1) for value in (inner, outer))
        gain = added.square() - kept.square()
        order = (change.flatten(1).abs() - kept.abs()).argsort(dim=1, descending=True)
        room = float(self.eps) ** 2 - kept.square().sum(1, keepdim=True)
        fits = torch.zeros_like(gain, dtype=torch.bool).scatter(1, order, gain.gather(1, order).cumsum(1) <= room)
        return torch.where(fits.view_as(inner), outer, inner).clamp(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of unit length in the norm in which a function with this gradient rises fastest."""
        if self.norm == "linf":
            return gradient.sign()
        return gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)

    def sample(self, origin: Tensor) -> Tensor:
        """Images drawn uniformly from the ball around `origin`, clipped to [0, 1]."""
        if origin.dtype in HALF:
            return self._round(self.sample(origin.float()).double(), origin)
        eps = float(self.eps)
        if self.norm == "linf":
            return (origin + eps * noise.uniform(origin)).clamp(0, 1)
        direction = noise.normal(origin).flatten(1)
        with noise.repeat(1, len(origin)):  # numbers of its own, where nothing outside counts the draws
            radius = noise.uniform(origin[:, :1, :1, :1].double(), low=0.0)[:, :, 0, 0] ** (1 / direction.shape[1])
        change = direction / direction.norm(dim=1, keepdim=True) * radius.to(origin.dtype)
        return (origin + eps * change.view_as(origin)).clamp(0, 1)


def _step(values: Tensor, towards: Tensor) -> Tensor:
    """The next numbers in half precision, from values in [0, 1] towards others."""
    # The bits of floats that are not negative are in their order.
    direction = (towards.double() - values.double()).sign().to(torch.int16)
    return (values.view(torch.int16) + direction).view(values.dtype)
