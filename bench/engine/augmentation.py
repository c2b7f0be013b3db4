"""Moves, crops, flips and blurs training images, with their masks and gaze."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bench import noise

TRIES = 10  # boxes drawn for a crop, of which one that fits is taken


def crop_flip(stacks: list[Tensor], pad: int = 4) -> list[Tensor]:
    """Crop at random after zero padding, and flip left-right; each row alike in all stacks, (B, ?, H, W) each."""
    like = stacks[0]
    drawn = noise.uniform(torch.empty(len(like), 3, device=like.device), 0, 1)
    height, width = like.shape[2:]
    top, left = (drawn[:, :2] * (2 * pad + 1)).long().unbind(1)
    row = top[:, None] + torch.arange(height, device=like.device)
    column = left[:, None] + torch.arange(width, device=like.device)
    column = torch.where(drawn[:, 2:] < 0.5, column, column.flip(1))
    index = torch.arange(len(like), device=like.device)[:, None, None]
    return [
        F.pad(stack, (pad,) * 4)
        .permute(0, 2, 3, 1)[index, row[:, :, None], column[:, None, :]]
        .permute(0, 3, 1, 2)
        .contiguous()
        for stack in stacks
    ]


def rotate_flip_blur(stacks: list[Tensor], degrees: float = 30.0, kernel: int = 5) -> list[Tensor]:
    """Rotate at random about the centre and flip left-right; each row alike in all stacks, (B, ?, H, W) each.

    Bilinear, zero outside; masks of whole numbers or bools are rounded. The first stack, the images, is also blurred by
    a Gaussian of 0.1 to 2 pixels.
    """
    images = stacks[0]
    turn, side, width = noise.uniform(torch.empty(len(images), 3, device=images.device), 0, 1).unbind(1)
    angle = (2 * turn - 1) * math.radians(degrees)
    flip = torch.where(side < 0.5, 1.0, -1.0)
    height, length = images.shape[2:]
    zero = torch.zeros_like(angle)
    # In units of half a side, which need not be the same along both axes.
    rows = [
        torch.stack([flip * angle.cos(), -angle.sin() * height / length, zero], 1),
        torch.stack([flip * angle.sin() * length / height, angle.cos(), zero], 1),
    ]
    theta = torch.stack(rows, 1)
    moved = _sample(stacks, F.affine_grid(theta, list(images.shape), align_corners=False))
    offsets = torch.arange(kernel, device=images.device) - kernel // 2
    weights = (-offsets.square() / (2 * (0.1 + 1.9 * width[:, None]).square())).exp()
    weights = (weights / weights.sum(1, keepdim=True)).to(images.dtype)
    channels = images.shape[1]
    taps = weights.repeat_interleave(channels, 0)[:, None]
    blurred = F.pad(moved[0], (kernel // 2,) * 4, mode="reflect").flatten(0, 1)[None]
    for shape in ((-1, 1, kernel, 1), (-1, 1, 1, kernel)):
        blurred = F.conv2d(blurred, taps.reshape(shape), groups=len(taps))
    return [blurred[0].view_as(images), *moved[1:]]


def resized_crop_flip(stacks: list[Tensor]) -> list[Tensor]:
    """Crop a box at random, enlarge it to the whole picture, and flip left-right; each row alike in all stacks,
    (B, ?, H, W) each. Bilinear; masks of whole numbers or bools are rounded."""
    images = stacks[0]
    height, width = images.shape[2:]
    drawn = noise.uniform(torch.empty(len(images), 3 + 2 * TRIES, device=images.device), 0, 1)
    boxes = choose_boxes(drawn[:, 1:], height, width)
    flip = torch.where(drawn[:, 0] < 0.5, 1.0, -1.0)
    top, left, high, wide = boxes.to(images.device).unbind(1)
    zero = torch.zeros_like(flip)
    # From -1 to 1 along each axis, as affine_grid counts.
    rows = [
        torch.stack([flip * wide / width, zero, (2 * left + wide) / width - 1], 1),
        torch.stack([zero, high / height, (2 * top + high) / height - 1], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    # Pixels beside the box do not shine into it.
    start, end = torch.stack([left, top], 1), torch.stack([left + wide, top + high], 1)
    size = torch.tensor([width, height], device=images.device)
    grid = grid.clamp(((2 * start + 1) / size - 1)[:, None, None], ((2 * end - 1) / size - 1)[:, None, None])
    return _sample(stacks, grid)


def _sample(stacks: list[Tensor], grid: Tensor) -> list[Tensor]:
    """Each stack at the places of a grid; whole numbers and bools are rounded."""
    moved = []
    for stack in stacks:
        found = F.grid_sample(stack.float(), grid, align_corners=False)
        moved.append((found if stack.is_floating_point() else found.round()).to(stack.dtype))
    return moved


def choose_boxes(
    drawn: Tensor, height: int, width: int, area: tuple[float, float] = (0.08, 1), ratio: float = 4 / 3
) -> Tensor:
    """Boxes (B, 4) of whole pixels, top, left, height and width, from uniform numbers in [0, 1), (B, 2 + 2 TRIES).

    Area, as a share of the picture's, and the logarithm of the aspect are uniform (Szegedy et al., 2015): the first of
    TRIES boxes that fits is taken, and the whole picture where none does.
    """
    share = area[0] + (area[1] - area[0]) * drawn[:, 2 : 2 + TRIES].double()
    aspect = ((2 * drawn[:, 2 + TRIES :].double() - 1) * math.log(ratio)).exp()
    wide = (height * width * share * aspect).sqrt().round()
    high = (height * width * share / aspect).sqrt().round()
    fits = (wide >= 1) & (wide <= width) & (high >= 1) & (high <= height)
    first = fits.int().argmax(1, keepdim=True)
    found = fits.any(1)
    wide, high = (
        torch.where(found, side.gather(1, first)[:, 0], torch.full_like(side[:, 0], whole))
        for side, whole in ((wide, width), (high, height))
    )
    top = (drawn[:, 0].double() * (height - high + 1)).floor()
    left = (drawn[:, 1].double() * (width - wide + 1)).floor()
    return torch.stack([top, left, high, wide], 1).float()


AUGMENTATIONS: dict[str, Callable[[list[Tensor]], list[Tensor]]] = {
    "crop_flip": crop_flip,
    "rotate_flip_blur": rotate_flip_blur,
    "resized_crop_flip": resized_crop_flip,
}
