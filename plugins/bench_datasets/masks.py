"""Read object masks, whose values are ids or shades."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.images import Frame, open_image

Values = Literal["auto", "ids", "shades"]
VOC_VOID = (224, 224, 192)  # the colour of 255 in the palette of PASCAL VOC


def object_mask(content: bytes, frame: Frame, values: Values) -> Tensor:
    """Read a mask (H, W) from a file's content: 1 on the object, 0 off it, 0.5 where it is void.

    Raises ValueError where it cannot be decoded, and under "auto" where ids and shades are equally likely.
    """
    file, image = open_image(content)
    grey = np.asarray(image if image.mode.startswith(("I", "F")) else image.convert("L"))
    if values == "shades" or (values == "auto" and (file.format == "JPEG" or (grey % 1).any())):
        marks = np.where(grey > grey.max() / 2, 2, 0)
    else:
        marks = _mark_ids(_ids(image), values == "auto")
    placed = frame.place(Image.fromarray(marks.astype(np.uint8)), nearest=True)
    return torch.from_numpy(np.asarray(placed).copy()).float() / 2


def _mark_ids(ids: np.ndarray, doubt: bool) -> np.ndarray:
    """Mark the object by 2, what is void by 1, and background by 0."""
    void = 255 if ids.max() <= 255 else 65535
    is_void, is_object = ids == void, (ids != 0) & (ids != void)
    if doubt and not is_object.any():
        return 2 * is_void
    # The shades of a smoothed edge, around an object of the largest value, look like this as well.
    if doubt and ids[is_object].max() > void / 2 and is_void.sum() > is_object.sum():
        raise ValueError(
            f"it is mostly {void}, with values such as {ids[is_object].max()}; give mask_values=ids where {void} is "
            "void, or mask_values=shades where it is the object"
        )
    return 2 * is_object + is_void


def _ids(image: Image.Image) -> np.ndarray:
    """The ids of a mask, (H, W): its grey values, the indices of its palette, or 1 for any colour."""
    values = np.asarray(image)
    if image.mode.startswith(("I", "F")):
        return np.ceil(values).astype(np.int64)
    colours = np.asarray(image.convert("RGBA")).astype(np.int64)
    is_black = (colours[..., :3] == 0).all(-1)
    # Some writers sort the colours of a palette. Then black is the background, whatever its index.
    if image.mode == "P" and ((image.getpalette("RGB") or [])[:3] == [0, 0, 0] or not is_black.any()):
        return values.astype(np.int64)
    is_grey = (colours[..., :3] == colours[..., :1]).all(-1)
    ids = np.where(is_grey, colours[..., 0], np.where((colours[..., :3] == VOC_VOID).all(-1), 255, 1))
    return ids * (colours[..., 3] > 0)
