"""Moves, flips and blurs training images, with their masks and gaze."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bench import noise


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
    moved = []
    for stack in stacks:
        grid = F.affine_grid(theta, list(stack.shape), align_corners=False)
        found = F.grid_sample(stack.float(), grid, align_corners=False)
        moved.append((found if stack.is_floating_point() else found.round()).to(stack.dtype))
    offsets = torch.arange(kernel, device=images.device) - kernel // 2
    weights = (-offsets.square() / (2 * (0.1 + 1.9 * width[:, None]).square())).exp()
    weights = (weights / weights.sum(1, keepdim=True)).to(images.dtype)
    channels = images.shape[1]
    taps = weights.repeat_interleave(channels, 0)[:, None]
    blurred = F.pad(moved[0], (kernel // 2,) * 4, mode="reflect").flatten(0, 1)[None]
    for shape in ((-1, 1, kernel, 1), (-1, 1, 1, kernel)):
        blurred = F.conv2d(blurred, taps.reshape(shape), groups=len(taps))
    return [blurred[0].view_as(images), *moved[1:]]


AUGMENTATIONS: dict[str, Callable[[list[Tensor]], list[Tensor]]] = {
    "crop_flip": crop_flip,
    "rotate_flip_blur": rotate_flip_blur,
}
