"""The budget of an attack."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from bench import noise
from bench.axes import NORMS
from bench.errors import BadValue
from bench.networks import HALF, to_float32
from bench.transformations import TRANSFORMATIONS, Transformation


@dataclass(frozen=True)
class Ball:
    """The images within eps of the clean one in a norm, in pixel units of [0, 1], or within reach of a transformation.

    In "l0", eps is a number of pixels, which may take any colour (Croce and Hein, ICCV 2019, who call them sparse).

    A transformation changes an image by a few parameters, each from -eps to eps. In "rotation" it is an angle in
    degrees, counterclockwise about the middle; in "translation" two shifts in pixels, down and to the right (Engstrom
    et al., ICML 2019). Pixels between others are interpolated bilinearly, and black comes from outside the frame. In
    "colour" it is a turn of the hue, as a share of the full circle, and a share by which the saturation grows, in HSV,
    while the value stays (after Hosseini and Poovendran, CVPR Workshops 2018, who add to the saturation, which paints
    grey red; it is multiplied as in Hsiung et al., CVPR 2023).

    A point of the ball is what an attack returns: an image (C, H, W), or the parameters (P,) of a transformation.
    """

    norm: Literal["linf", "l2", "l0", "rotation", "translation", "colour"]
    eps: Fraction

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            *others, last = NORMS
            raise BadValue(f"norm {self.norm!r}: choose {', '.join(others)} or {last}")
        if not isinstance(self.eps, int | float | Fraction):
            raise BadValue(f"eps {self.eps!r} is not a number; give a Fraction such as Fraction(8, 255)")
        norm = NORMS[self.norm]
        if norm.allows(self.eps):
            return
        if norm.words:
            raise BadValue(f"eps {self.eps} is impossible in {self.norm}: {norm.words}")
        raise BadValue(
            f"eps {self.eps} is impossible: budgets are in pixel units of [0, 1]; write a fraction such as 8/255 "
            "(a budget in units of the normalised image, times the std of its pixels)"
        )

    def __str__(self) -> str:
        return f"{self.norm}:{self.eps}"

    @property
    def transformation(self) -> Transformation | None:
        """What changes images in this ball; None in that of a norm."""
        return TRANSFORMATIONS.get(self.norm)

    @property
    def space(self) -> Literal["images", "parameters"]:
        """What the points of the ball are."""
        return "parameters" if self.transformation else "images"

    @property
    def moves_pixels(self) -> bool:
        """Whether maps have to move with their images."""
        return self.transformation is not None and self.transformation.trace is not None

    def center(self, images: Tensor) -> Tensor:
        """The points that change nothing: the images themselves, or parameters of zero."""
        if self.transformation is None:
            return images
        return to_float32(images).new_zeros(len(images), len(self.transformation.parameters))

    def apply(self, points: Tensor, images: Tensor) -> Tensor:
        """The images (B, C, H, W) of points: these themselves, or the clean images, transformed by parameters."""
        if self.transformation is None:
            return points
        return self.transformation.apply(to_float32(images), points).to(images.dtype)

    def align(self, clean: Tensor, attacked: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Clean maps, moved as their images were, and the maps of the attacked images, both (B, C, H, W).

        An explanation is equivariant if the two are the same (Crabbé and van der Schaar, NeurIPS 2023). Both
        are zero where the image shows what was outside the frame.
        """
        if self.transformation is None or not self.moves_pixels:
            return clean, attacked
        known = self.transformation.find_known(clean, points)
        return self.transformation.carry(clean, points) * known, attacked * known

    @property
    def reach(self) -> float:
        """What attacks measure their steps by: eps, or in l0, where pixels may take any colour, one."""
        return 1.0 if self.norm == "l0" and self.eps else float(self.eps)

    def resize(self, eps: Fraction) -> Ball:
        """A ball of another size in the same norm; where eps is a whole number, it is rounded down."""
        return dataclasses.replace(self, eps=Fraction(int(eps)) if NORMS[self.norm].whole else eps)

    def project(self, images: Tensor, origin: Tensor) -> Tensor:
        """The nearest points of the ball around `origin`; images are clipped to [0, 1], which leaves none outside."""
        if self.transformation:
            return images.clamp(-float(self.eps), float(self.eps))
        if origin.dtype in HALF:
            return self._round(self.project(images.double(), origin.double()), origin)
        if self.norm == "l0":
            return self._keep_pixels(images, origin)
        eps = float(self.eps)
        if self.norm == "linf":
            inside = torch.minimum(torch.maximum(images, origin - eps), origin + eps)
        else:
            change = images - origin
            length = change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            inside = torch.where(length > eps, origin + change * (eps / length.clamp(min=1e-12)), images)
        return inside.clamp(0, 1)

    def _keep_pixels(self, images: Tensor, origin: Tensor) -> Tensor:
        """Keep the pixels that bring the result nearest to the images (Croce and Hein, ICCV 2019)."""
        inside = images.clamp(0, 1)
        gain = ((images - origin).square() - (images - inside).square()).sum(1).flatten(1)
        kept = torch.zeros_like(gain, dtype=torch.bool)
        kept.scatter_(1, gain.argsort(dim=1, descending=True, stable=True)[:, : int(self.eps)], True)
        return torch.where(kept.view(len(images), 1, *images.shape[2:]), inside, origin)

    def _round(self, images: Tensor, origin: Tensor) -> Tensor:
        """Round images in the ball and in [0, 1] to the half precision of `origin`, so that none leaves the ball.

        Numbers are rounded towards the origin, and in an l2 ball those that lose most away from it, while they fit.
        """
        start, change = origin.double(), images - origin.double()
        near = images.abs().to(origin.dtype)  # no zero with a sign
        outwards = (near.double() - start).abs() > change.abs()
        inner = torch.where(outwards, _step(near, origin), near)
        if self.norm != "l2":
            return inner
        outer = torch.where(images == inner.double(), inner, _step(inner, images.to(torch.float32)))
        kept, added = ((value.double() - start).flatten(1) for value in (inner, outer))
        gain = added.square() - kept.square()
        order = (change.flatten(1).abs() - kept.abs()).argsort(dim=1, descending=True)
        room = float(self.eps) ** 2 - kept.square().sum(1, keepdim=True)
        fits = torch.zeros_like(gain, dtype=torch.bool).scatter(1, order, gain.gather(1, order).cumsum(1) <= room)
        return torch.where(fits.view_as(inner), outer, inner).clamp(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of unit length in the norm in which a function with this gradient rises fastest.

        In l0, where length does not count, the gradient with a largest number of one.
        """
        if self.norm == "linf" or self.transformation:
            return gradient.sign()
        if self.norm == "l0":
            return gradient / gradient.flatten(1).abs().amax(1).clamp(min=1e-12).view(-1, 1, 1, 1)
        return gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)

    def sample(self, origin: Tensor) -> Tensor:
        """Points drawn uniformly from the ball around `origin`; images are clipped to [0, 1]. In l0, eps pixels of any
        colour."""
        if self.transformation:
            return float(self.eps) * noise.uniform(self.center(origin))
        if origin.dtype in HALF:
            return self._round(self.sample(origin.float()).double(), origin)
        if self.norm == "l0":
            drawn = noise.uniform(torch.cat([origin, origin[:, :1]], 1), low=0.0)
            ranks = drawn[:, -1].flatten(1).argsort(dim=1, stable=True).argsort(dim=1)
            chosen = (ranks < int(self.eps)).view(len(origin), 1, *origin.shape[2:])
            return torch.where(chosen, drawn[:, :-1], origin)
        eps = float(self.eps)
        if self.norm == "linf":
            return (origin + eps * noise.uniform(origin)).clamp(0, 1)
        return (origin + eps * noise.ball(origin)).clamp(0, 1)


def _step(values: Tensor, towards: Tensor) -> Tensor:
    """The next numbers in half precision, from values in [0, 1] towards others."""
    # The bits of floats that are not negative are in their order.
    direction = (towards.double() - values.double()).sign().to(torch.int16)
    return (values.view(torch.int16) + direction).view(values.dtype)
