"""Image files to tensors of one size."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from bench.errors import BadValue, EnvironmentProblem, quote_error
from bench.files import read_file

BITS, INTERPRETATION, WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF, and a value of the second
ORIENTATION = 274  # a tag of EXIF

# Formats that Pillow decodes by itself: others would start a program, such as Ghostscript for PostScript.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
LARGEST = 10**9  # bytes of a file
PIXELS = 2 * 89_478_485  # of an image: where Pillow stops decoding

# What reading and decoding a file raise.
UNREADABLE = (OSError, ValueError)


@dataclass(frozen=True)
class Frame:
    """How images are brought to one size.

    A `size` of 0 leaves them as they are. The crop "center" scales the shorter side to `resize` (0 means `size`), and
    "none" both sides; a square of `size` is then cut from the middle, exactly as torchvision does.
    """

    size: int
    resize: int
    crop: Literal["center", "none"]
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def find_problem(self) -> str | None:
        """What is wrong with the parameters taken together, or None."""
        if self.resize and not self.size:
            return f"resize is {self.resize} and size is 0; give the size to crop to as well"
        if self.resize and self.resize < self.size:
            return f"resize is {self.resize}, smaller than the crop of size {self.size}; give {self.size} or more"
        return None

    def place(self, image: Image.Image, nearest: bool = False) -> Image.Image:
        """Scale and crop an image, or a mask by the nearest pixel."""
        if not self.size:
            return image
        method = Image.Resampling.NEAREST if nearest else Image.Resampling[self.interpolation.upper()]
        sides, (left, top) = self._scale(*image.size)
        if sides[0] * sides[1] > PIXELS:
            raise ValueError(
                f"{image.width} x {image.height} pixels would become {sides[0]} x {sides[1]}; crop it first"
            )
        return image.resize(sides, method).crop((left, top, left + self.size, top + self.size))

    def move_points(self, points: Tensor, width: int, height: int) -> Tensor:
        """Map points (x, y) of an image of this width and height to the framed image, (n, 2) -> (n, 2).

        Points may end up outside the frame.
        """
        if not self.size:
            return points
        sides, corner = self._scale(width, height)
        return points * torch.tensor(sides) / torch.tensor([width, height]) - torch.tensor(corner)

    def _scale(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Width and height before the crop, and the crop's upper left corner."""
        shorter = self.resize or self.size
        wide, high = (
            shorter if self.crop == "none" else int(shorter * side / min(width, height)) for side in (width, height)
        )
        return (wide, high), (round((wide - self.size) / 2), round((high - self.size) / 2))


def open_image(content: bytes) -> tuple[Image.Image, Image.Image]:
    """The first image of a file, as the file has it and upright.

    Raises ValueError where the content is of none of the FORMATS, damaged, or too large when decoded.
    """
    try:
        file = Image.open(io.BytesIO(content), formats=FORMATS)
        file.load()
        # Pillow copies an image that it leaves as it is.
        return file, ImageOps.exif_transpose(file) if file.getexif().get(ORIENTATION, 1) != 1 else file
    except UnidentifiedImageError:
        raise ValueError(f"it is none of {', '.join(FORMATS)}") from None
    except Exception as error:  # whatever a decoder of strangers' bytes comes to
        raise ValueError(quote_error(error)) from None


def open_upright(content: bytes) -> Image.Image:
    """Open the content of a file as an upright image of 8 bits a channel.

    Deeper grey images are scaled by what the file says: 16 bits by its number of bits, floats as they are. Raises
    ValueError for floats outside [0, 1] and for 32-bit whole numbers, whose range no file says.
    """
    file, image = open_image(content)
    if not image.mode.startswith(("I", "F")):
        return image
    tags = getattr(file, "tag_v2", {})  # of a TIFF
    values = np.asarray(image).astype(np.float64)
    if image.mode.startswith("I;16"):
        values /= 2 ** tags.get(BITS, (16,))[0] - 1
    elif image.mode == "I" and file.format in ("PNG", "PPM"):  # 16 bits all the same
        values /= 65535
    elif image.mode == "I":
        raise ValueError(f"32-bit pixels from {values.min():g} to {values.max():g}; store 8 or 16 bits")
    elif not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"float pixels from {values.min():g} to {values.max():g}; store them in [0, 1], or as 8 bits")
    if tags.get(INTERPRETATION) == WHITE_IS_ZERO:
        values = 1 - values
    return Image.fromarray((values * 255).round().astype(np.uint8))


def decode(content: bytes) -> Image.Image:
    """Decode the content of a file to an upright RGB image.

    Grey and palette images are expanded, deeper ones scaled to 8 bits, transparent ones laid over white.
    """
    image = open_upright(content)
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def pixels(content: bytes, frame: Frame) -> Tensor:
    """Decode the content of a file to an image (3, H, W) in [0, 1]."""
    placed = np.asarray(frame.place(decode(content)))
    # By numpy: torch would share each picture among threads, of which every one decodes another already.
    values = torch.empty(placed.shape)
    np.divide(placed, 255, out=values.numpy(), dtype=np.float32)
    return values.permute(2, 0, 1)


def read_picture(file: Path, frame: Frame) -> Tensor:
    """Read a picture file of any size as an image (3, H, W) in [0, 1]. Raises EnvironmentProblem where that fails."""
    try:
        content = read_file(file, LARGEST)
    except OSError as error:
        raise EnvironmentProblem(f"picture {file} cannot be read ({error.strerror}); check the path") from None
    try:
        with warnings.catch_warnings(action="ignore"):  # about large pictures, which are fine here
            return pixels(content, frame)
    except UNREADABLE as error:
        raise EnvironmentProblem(
            f"picture {file} cannot be decoded ({quote_error(error)}); use a JPEG, a PNG or the like"
        ) from None


def load(
    files: Sequence[str | Path],
    size: int,
    resize: int = 0,
    crop: Literal["center", "none"] = "center",
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
) -> Tensor:
    """Load picture files as images (N, 3, size, size) in [0, 1], scaled and cropped as by `Frame`.

    Raises EnvironmentProblem for a file that is no picture, BadValue for sizes that do not fit.
    """
    frame = Frame(size, resize, crop, interpolation)
    if problem := frame.find_problem():
        raise BadValue(problem)
    return torch.stack([read_picture(Path(file), frame) for file in files])
