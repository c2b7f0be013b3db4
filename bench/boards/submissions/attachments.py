"""Reads what strangers send beside records in formats other than text: values of images, and pictures.

Needs neither torch nor plugins.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import BadValue
from bench.shapes import LARGEST, check, clean, quote, text

ROWS = 2_000_000
UNCOMPRESSED = 200_000_000  # bytes, by the file's own metadata
ENCODINGS = {"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}  # none that makes much out of little
SIDE = 4000  # pixels
SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")  # those that pixels need; `publish` writes no others
END = b"\0\0\0\0IEND\xaeB`\x82"  # length, name and checksum of the last part


@dataclass(frozen=True)
class Values:
    """The values (N, L) of one record, of N images at L named levels, NaN where undefined."""

    images: np.ndarray
    names: tuple[str, ...]
    values: np.ndarray
    kept: np.ndarray | None


def read_values(file: Path) -> dict[str, Values]:
    """By key, the values in a Parquet file as `record.values_file` writes it.

    Checks its size in memory before reading it. Raises BadValue in one line.
    """
    import pyarrow
    import pyarrow.parquet

    problems = (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, MemoryError)
    try:
        limits = {"thrift_string_size_limit": 1_000_000, "thrift_container_size_limit": 100_000}
        with pyarrow.parquet.ParquetFile(file, **limits) as opened:
            _check_layout(file, opened)
        # As a dictionary, a long text that repeats takes its memory once.
        with pyarrow.parquet.ParquetFile(file, read_dictionary=["key", "level"], **limits) as opened:
            table = opened.read(use_threads=False).unify_dictionaries()
        return _split_by_key(file, table)
    except problems as error:
        raise BadValue(
            f"{file} is not a Parquet file that can be read ({clean(str(error))}); publish it again"
        ) from None


def check_footer(file: Path, meta: Any) -> list[Any]:
    """The parts of a Parquet file, by its footer. Raises BadValue where they would be too large in memory."""
    if meta.num_rows > ROWS:
        raise BadValue(f"{file} has {meta.num_rows} rows; at most {ROWS} are allowed")
    parts = [meta.row_group(g).column(c) for g in range(meta.num_row_groups) for c in range(meta.num_columns)]
    size = sum(part.total_uncompressed_size for part in parts)
    if size > UNCOMPRESSED:
        raise BadValue(f"{file} has {size} bytes when uncompressed; at most {UNCOMPRESSED} are allowed")
    return parts


def _check_layout(file: Path, opened: Any) -> None:
    import pyarrow

    columns = {
        "key": pyarrow.string(),
        "image": pyarrow.int64(),
        "level": pyarrow.string(),
        "value": pyarrow.float64(),
        "kept": pyarrow.bool_(),
    }
    parts = check_footer(file, opened.metadata)
    found = [(field.name, field.type) for field in opened.schema_arrow]
    if found != list(columns.items()):
        named, expected = (", ".join(f"{name} {kind}" for name, kind in each) for each in (found, columns.items()))
        raise BadValue(f"{file} has the columns {quote(named)}, must be {expected}")
    unknown = sorted({encoding for part in parts for encoding in part.encodings} - ENCODINGS)
    if unknown:
        raise BadValue(f"{file} is encoded by {clean(unknown[0])}; publish it again, which writes plain values")


def _split_by_key(file: Path, table: Any) -> dict[str, Values]:
    for name in ("key", "image", "level"):
        if table[name].null_count:
            raise BadValue(f"{file}: a row has no {name}; publish it again")
    keys, owners = _read_texts(file, table["key"], 16)
    levels, places = _read_texts(file, table["level"], 200)
    values = table["value"].to_numpy()
    if not (np.abs(values[~table["value"].is_null().to_numpy()]) <= LARGEST).all():  # NaN is not either
        raise BadValue(f"{file}: a value is not finite, or above {LARGEST:g}; write null for what is undefined")
    kept = table["kept"].fill_null(False).to_numpy() + 2 * table["kept"].is_null().to_numpy()  # 2: unknown
    columns = (table["image"].to_numpy(), places, values, kept.astype(np.int8))
    order = np.argsort(owners, kind="stable")
    starts = np.flatnonzero(np.diff(owners[order], prepend=-1))
    by_key = {}
    for rows in np.split(order, starts[1:]) if len(order) else []:
        key = keys[owners[rows[0]]]
        by_key[key] = _arrange(f"{file}: values of {quote(key)}", levels, *(column[rows] for column in columns))
    return by_key


def _read_texts(file: Path, column: Any, limit: int) -> tuple[list[str], np.ndarray]:
    """The different texts of a column, and for each row the place of its text among them."""
    import pyarrow.compute

    if not column.chunks:
        return [], np.empty(0, np.int64)
    texts = column.chunks[0].dictionary  # that of all chunks, after unify_dictionaries
    if len(texts) and pyarrow.compute.max(pyarrow.compute.binary_length(texts)).as_py() > 4 * limit:
        raise BadValue(f"{file}: a text is longer than {limit} characters; publish it again")
    different = texts.to_pylist()
    for each in different:
        check(f"{file}: a text", text(limit, empty=True), each)
    return different, np.concatenate([chunk.indices.to_numpy() for chunk in column.chunks]).astype(np.int64)


def _arrange(
    about: str, levels: list[str], images: np.ndarray, places: np.ndarray, values: np.ndarray, kept: np.ndarray
) -> Values:
    """The rows of one key, which come image by image, each with the same levels in one order."""
    images, places, values, kept = (
        column.reshape(-1, len(np.unique(places))) if len(column) % len(np.unique(places)) == 0 else column[:, None]
        for column in (images, places, values, kept)
    )
    if (images != images[:, :1]).any() or (places != places[0]).any() or (kept != kept[:, :1]).any():
        raise BadValue(f"{about} are not ordered by image, each with the same levels; publish it again")
    if len(np.unique(images[:, 0])) != len(images) or images.min() < -1:
        raise BadValue(f"{about} name an image twice, or one below -1; publish it again")
    if len(np.unique(places[0])) != places.shape[1] or len({int(k) == 2 for k in kept[:, 0]}) > 1:
        raise BadValue(
            f"{about} name a level twice, or say only of some images whether they are kept; publish it again"
        )
    known = None if kept[0, 0] == 2 else kept[:, 0].astype(bool)
    return Values(images[:, 0], tuple(levels[place] for place in places[0]), values, known)


def check_png(file: Path) -> None:
    """Raise BadValue unless a file is one PNG picture of bounded size, and nothing else.

    Pillow lists its parts, then decodes its pixels. Whatever is hidden among the bytes of these shows when they are
    encoded again and need much less space.
    """
    from PIL import Image, PngImagePlugin, UnidentifiedImageError

    raw, again = file.read_bytes(), io.BytesIO()
    if not raw.startswith(SIGNATURE):
        raise BadValue(f"{file} is not a PNG (it begins with {raw[:8].hex()}); save the picture as PNG")
    stream = io.BytesIO(raw)
    stream.seek(len(SIGNATURE))
    try:
        with PngImagePlugin.ChunkStream(stream) as chunks:
            unknown = [kind.decode("latin1") for kind in chunks.verify() if kind not in CHUNKS]
        if unknown:
            raise BadValue(f"{file} has the part {quote(unknown[0])}; save its pixels alone, without text or profile")
        behind = len(raw) - stream.tell() - 4  # after the checksum of the last part
        if behind or not raw.endswith(END):
            raise BadValue(f"{file} has {behind} bytes after the picture; save the picture again")
        with warnings.catch_warnings(action="error"), Image.open(io.BytesIO(raw), formats=("PNG",)) as picture:
            width, height = picture.size
            if max(width, height) > SIDE:
                raise BadValue(f"{file} is a PNG of {width} x {height} pixels; at most {SIDE} x {SIDE} are allowed")
            picture.load()
            picture.save(again, "PNG")
    except BadValue:
        raise
    except Exception as error:  # whatever a decoder of strangers' bytes comes to
        reason = "its header is wrong" if isinstance(error, UnidentifiedImageError) else clean(str(error))
        raise BadValue(f"{file} cannot be decoded ({reason}); save the picture again") from None
    if len(raw) > 2 * again.tell() + 1000:
        raise BadValue(f"{file} has {len(raw)} bytes, but its pixels need only {again.tell()}; save the picture again")
