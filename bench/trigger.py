"""The patch that a backdoored network looks for."""

from __future__ import annotations

from torch import Tensor


def stamp(images: Tensor) -> Tensor:
    """Paste a white square with a black border into the lower right corner of copies: (B, C, H, W) -> (B, C, H, W).

    The square has an eighth of the shorter side, and the border a quarter of that.
    """
    side = max(1, min(images.shape[2:]) // 8)
    border = max(1, side // 4)
    stamped = images.clone()
    stamped[..., -side - 2 * border :, -side - 2 * border :] = 0
    stamped[..., -side - border : -border, -side - border : -border] = 1
    return stamped
