"""Transformations of images by a few parameters each: rotation, translation and colour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.errors import BadValue

GRID = 2.0**32  # parts of a pixel that places are rounded to: a quarter turn or a whole shift then meets pixels exactly

Places = tuple[Tensor, Tensor]  # rows and columns, (B, H, W) each, where the pixels of the new images come from


@dataclass(frozen=True)
class Transformation:
    """A way of changing images (B, C, H, W) by parameters (B, P); parameters of zero change nothing.

    `parameters`: their names. `trace`: the places that pixels come from, by parameters, height and width; None where
    pixels stay where they are. `recolour`: images with other colours, by images and parameters, where they do.
    """

    parameters: tuple[str, ...]
    trace: Callable[[Tensor, int, int], Places] | None = None
    recolour: Callable[[Tensor, Tensor], Tensor] | None = None

    def find_misfit(self, channels: int) -> str | None:
        """Why images of some channels cannot be changed, or None."""
        if not self.recolour or channels == 3:
            return None
        return (
            f"a ball of colour needs images of 3 channels, and these have {channels}; use --norm rotation or "
            "translation"
        )

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Changed images: (B, C, H, W), (B, P) -> (B, C, H, W) in [0, 1]. Raises BadValue for grey images in
        a ball of colour."""
        if why := self.find_misfit(images.shape[1]):
            raise BadValue(why)
        if self.recolour:
            return self.recolour(images, parameters)
        return self.carry(images, parameters)

    def carry(self, values: Tensor, parameters: Tensor) -> Tensor:
        """Move maps as the pixels of their images move: (B, C, H, W), (B, P) -> (B, C, H, W). Zero comes from outside
        the frame."""
        return resample(values, *self.trace(parameters, *values.shape[2:])) if self.trace else values

    def find_known(self, values: Tensor, parameters: Tensor) -> Tensor:
        """Mark the pixels that come from inside the frame: (B, C, H, W), (B, P) -> (B, 1, H, W) bool."""
        height, width = values.shape[2:]
        if self.trace is None:
            return torch.ones_like(values[:, :1], dtype=torch.bool)
        rows, columns = self.trace(parameters, height, width)
        return ((rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1))[:, None]


def resample(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Take values (B, C, H, W) at places (B, H, W) between pixels, by bilinear interpolation; around them is zero.

    Not `grid_sample`, whose places are shares of the frame, so that those of pixels are off by rounding.
    """
    (count, channels, height, width), padded = values.shape, F.pad(values, (1, 1, 1, 1)).flatten(2)
    rows, columns = (rows + 1).clamp(0, height + 1), (columns + 1).clamp(0, width + 1)
    top, left = rows.detach().floor().clamp(max=height), columns.detach().floor().clamp(max=width)
    down, right = (share.to(values.dtype)[:, None] for share in (rows - top, columns - left))

    def at(row: Tensor, column: Tensor) -> Tensor:
        index = (row * (width + 2) + column).long().view(count, 1, -1).expand(-1, channels, -1)
        return padded.gather(2, index).view_as(values)

    above = at(top, left) * (1 - right) + at(top, left + 1) * right
    below = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    return above * (1 - down) + below * down


def _center(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (H, 1) and columns (1, W) of pixels, from the middle of the frame."""
    rows, columns = (torch.arange(n, dtype=torch.float64, device=like.device) - (n - 1) / 2 for n in (height, width))
    return rows[:, None], columns[None]


def _snap(places: Tensor) -> Tensor:
    """Round places, and keep their gradient."""
    return places + ((places.detach() * GRID).round() / GRID - places.detach())


def turn(parameters: Tensor, height: int, width: int) -> Places:
    """Rotate by an angle in degrees, counterclockwise, about the middle of the frame."""
    rows, columns = _center(height, width, parameters)
    angle = parameters.double().deg2rad()[:, :1, None]
    sine, cosine = angle.sin(), angle.cos()
    return (
        _snap(sine * columns + cosine * rows + (height - 1) / 2),
        _snap(cosine * columns - sine * rows + (width - 1) / 2),
    )


def shift(parameters: Tensor, height: int, width: int) -> Places:
    """Move by pixels: down and to the right."""
    rows, columns = _center(height, width, parameters)
    down, right = parameters.double()[:, :, None, None].unbind(1)
    frame = torch.zeros(1, height, width, dtype=torch.float64, device=parameters.device)
    return (_snap(frame + rows + (height - 1) / 2 - down), _snap(frame + columns + (width - 1) / 2 - right))


def shift_colours(images: Tensor, parameters: Tensor) -> Tensor:
    """Add turns to the hue of each pixel, and multiply its saturation by one plus a share, in HSV (Smith, SIGGRAPH
    1978): (B, 3, H, W), (B, 2) -> (B, 3, H, W). The value stays; grey has no hue and stays grey."""
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = value - images.amin(1)
    divisor = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )  # in sixths of a turn
    turns, share = parameters[:, :, None, None].unbind(1)

    def paint(hue: Tensor, chroma: Tensor) -> Tensor:
        weights = [(place + hue).remainder(6) for place in (5, 3, 1)]
        return torch.stack([value - chroma * torch.minimum(k, 4 - k).clamp(0, 1) for k in weights], 1)

    changed = paint(hue + 6 * turns, torch.minimum(chroma * (1 + share), value))
    # As a difference, so that rounding on the way to HSV and back changes no image.
    return (images + (changed - paint(hue, chroma))).clamp(0, 1)


TRANSFORMATIONS = {
    "rotation": Transformation(("angle",), trace=turn),
    "translation": Transformation(("down", "right"), trace=shift),
    "colour": Transformation(("hue", "saturation"), recolour=shift_colours),
}
