"""Write images as the JPEG copy of CIFAR-10 has them, byte for byte.

The copy was written by libjpeg 9 at quality 75. That library halves the resolution of the colours with a cosine
transform of 16 x 16 pixels, of which it keeps the 8 x 8 lowest frequencies. libjpeg-turbo, which Pillow brings,
averages four pixels. Brightness is the same in both, so only the colours are transformed here, and Pillow writes the
file.
"""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

Integers = NDArray[np.int64]

SIDE, BLOCK = 16, 8  # of the square of pixels that shares a block of colours, and of that block
BITS, EXTRA = 13, 2  # after the point of the transform's numbers, and of the values between its two passes
QUALITY = 75
# Pillow receives values whose transform gives the coefficients times these. So the values fit into bytes, and rounding
# them moves no product by half a multiple. With 8, the mean of a block is a whole number.
MEAN, REST = 8, 6
COLOURS = b"\xff\xdb\x00\x43\x01"  # stands before the steps of colours in a file
# libjpeg adds up some numbers from rounded ones, so their last bit is not what the cosine gives.
LAST_BITS = {(1, 7): -1, (5, 2): 1, (6, 3): -1, (6, 4): 1, (7, 3): 1, (7, 4): 1}


def write_jpeg(image: Image.Image) -> bytes:
    """Write an image whose sides are multiples of 16."""
    pixels = np.asarray(image.convert("RGB"), np.int64)
    brightness, blue, red = (_round(pixels @ weights + offset, 16) for weights, offset in _WEIGHTS)
    whole = np.stack([brightness, _code(blue), _code(red)], -1).astype(np.uint8)
    of_brightness, _, as_written = _steps()
    file = io.BytesIO()
    tables = [of_brightness, _multiples().ravel().tolist()]
    Image.frombytes("YCbCr", image.size, whole.tobytes()).save(file, "JPEG", qtables=tables, subsampling="4:2:0")
    start, mark, rest = file.getvalue().partition(COLOURS)
    return start + mark + as_written + rest[len(as_written) :]


def _code(colour: Integers) -> Integers:
    """Values that libjpeg-turbo averages and transforms into multiples of the coefficients of libjpeg 9."""
    _, steps, _ = _steps()
    rows, columns = colour.shape[0] // SIDE, colour.shape[1] // SIDE
    squares = colour.reshape(rows, SIDE, columns, SIDE).swapaxes(1, 2) - 128
    once = _round(squares @ _transform().T, BITS - EXTRA)
    transformed = _round(_transform() @ once, BITS + EXTRA + 2)  # times 8, as steps are below
    coefficients = np.sign(transformed) * ((abs(transformed) + steps * 4) // (steps * 8))
    blocks = np.rint(_inverse().T @ (_multiples() * coefficients) @ _inverse()).astype(np.int64) + 128
    return blocks.swapaxes(1, 2).reshape(rows * BLOCK, columns * BLOCK).repeat(2, 0).repeat(2, 1)


def _round(values: Integers, bits: int) -> Integers:
    return (values + (1 << (bits - 1))) >> bits


def _weight(*parts: float) -> Integers:
    return np.floor(np.array(parts) * 2**16 + 0.5).astype(np.int64)


# Of red, green and blue in brightness, blueness and redness, with 16 bits after the point; and what is added. The
# colours are rounded down at one half.
_WEIGHTS = (
    (_weight(0.299, 0.587, 0.114), 0),
    (_weight(-0.168735892, -0.331264108, 0.5), (128 << 16) - 1),
    (_weight(0.5, -0.418687589, -0.081312411), (128 << 16) - 1),
)


@cache
def _transform() -> Integers:
    """Matrix from 16 values to 8 frequencies, (8, 16), with BITS bits after the point."""
    half = SIDE // 2
    frequency, place = np.arange(BLOCK)[:, None], np.arange(half)
    numbers = np.sqrt(2) * np.cos(frequency * (2 * place + 1) * np.pi / (2 * SIDE))
    numbers[0] = 1
    matrix = np.rint(numbers * 2**BITS).astype(np.int64)
    for at, change in LAST_BITS.items():
        matrix[at] += change
    return np.hstack([matrix, matrix[:, ::-1] * np.where(frequency % 2, -1, 1)])


@cache
def _inverse() -> NDArray[np.float64]:
    """The orthonormal cosine transform of 8 values."""
    frequency, place = np.arange(BLOCK)[:, None], np.arange(BLOCK)
    matrix = 0.5 * np.cos(frequency * (2 * place + 1) * np.pi / (2 * BLOCK))
    matrix[0] /= np.sqrt(2)
    return matrix


@cache
def _multiples() -> Integers:
    return np.array([MEAN, *[REST] * (BLOCK**2 - 1)]).reshape(BLOCK, BLOCK)


@cache
def _steps() -> tuple[list[int], Integers, bytes]:
    """The steps of brightness, those of colours, (8, 8), and the latter as they stand in a file."""
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(file, "JPEG", quality=QUALITY)
    file.seek(0)
    tables = JpegImageFile(file).quantization
    written = file.getvalue().partition(COLOURS)[2][: BLOCK**2]
    return tables[0], np.array(tables[1], np.int64).reshape(BLOCK, BLOCK), written
