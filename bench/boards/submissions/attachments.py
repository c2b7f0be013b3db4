"""What lies beside records in other formats than text, read as from strangers: values of images, and pictures.

Uses neither torch nor plugins.
"""

from __future__ import annotations

import io
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.boards.submissions.sanitize import check_text, said
from bench.errors import BadValue

ROWS = 2_000_000
UNCOMPRESSED = 200_000_000  # bytes, by the file's own metadata
ENCODINGS = {"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}  # none that makes much out of little
SIDE = 4000  # pixels
MAGIC = b"\x89PNG\r\n\x1a\n"
CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"pHYs", b"sRGB", b"gAMA", b"cHRM", b"sBIT", b"bKGD", b"tEXt"}


@dataclass(frozen=True)
class Values:
    """What there is of one record: values (N, L) of N images at L named levels, NaN where undefined."""

    images: np.ndarray
    names: tuple[str, ...]
    values: np.ndarray
    kept: np.ndarray | None


def read_values(file: Path) -> dict[str, Values]:
    """By key, the values in a Parquet file as `record.values_file` writes it.

    Its size in memory is looked up before it is read. Raises BadValue in one line.
    """
    import pyarrow
    import pyarrow.parquet

    problems = (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, MemoryError)
    try:
        # Of long texts that repeat, each is kept once.
        limits = {"thrift_string_size_limit": 1_000_000, "thrift_container_size_limit": 100_000}
        with pyarrow.parquet.ParquetFile(file, **limits) as opened:
            _check_form(file, opened)
        with pyarrow.parquet.ParquetFile(file, read_dictionary=["key", "level"], **limits) as opened:
            table = opened.read(use_threads=False).unify_dictionaries()
        return _by_key(file, table)
    except problems as error:
        raise BadValue(f"{file} is no Parquet file that can be read ({said(str(error))}); publish it again") from None


def _check_form(file: Path, opened: Any) -> None:
    import pyarrow

    wanted = {
        "key": pyarrow.string(),
        "image": pyarrow.int64(),
        "level": pyarrow.string(),
        "value": pyarrow.float64(),
        "kept": pyarrow.bool_(),
    }
    meta = opened.metadata
    if meta.num_rows > ROWS:
        raise BadValue(f"{file} has {meta.num_rows} rows; at most {ROWS} are taken")
    parts = [meta.row_group(g).column(c) for g in range(meta.num_row_groups) for c in range(meta.num_columns)]
    size = sum(part.total_uncompressed_size for part in parts)
    if size > UNCOMPRESSED:
        raise BadValue(f"{file} has {size} bytes when uncompressed; at most {UNCOMPRESSED} are taken")
    found = {field.name: field.type for field in opened.schema_arrow}
    if list(opened.schema_arrow.names) != list(wanted) or found != wanted:
        said_found = ", ".join(f"{name} {kind}" for name, kind in found.items())
        raise BadValue(
            f"{file} has the columns '{said(said_found)}', must be {', '.join(f'{n} {t}' for n, t in wanted.items())}"
        )
    unknown = sorted({encoding for part in parts for encoding in part.encodings} - ENCODINGS)
    if unknown:
        raise BadValue(f"{file} is encoded by {said(unknown[0])}; publish it again, which writes plain values")


def _by_key(file: Path, table: Any) -> dict[str, Values]:
    for name in ("key", "image", "level"):
        if table[name].null_count:
            raise BadValue(f"{file}: a row has no {name}; publish it again")
    keys, owners = _texts(file, table["key"], 16)
    levels, places = _texts(file, table["level"], 200)
    values = table["value"].to_numpy()
    if not np.isfinite(values[~table["value"].is_null().to_numpy()]).all():
        raise BadValue(f"{file}: a value is not finite; what is undefined is null: publish it again")
    kept = table["kept"].fill_null(False).to_numpy() + 2 * table["kept"].is_null().to_numpy()  # 2: unknown
    columns = (table["image"].to_numpy(), places, values, kept.astype(np.int8))
    order = np.argsort(owners, kind="stable")
    starts = np.flatnonzero(np.diff(owners[order], prepend=-1))
    found = {}
    for rows in np.split(order, starts[1:]) if len(order) else []:
        key = keys[owners[rows[0]]]
        found[key] = _one(f"{file}: values of {said(key)}", levels, *(column[rows] for column in columns))
    return found


def _texts(file: Path, column: Any, limit: int) -> tuple[list[str], np.ndarray]:
    """The different texts of a column, and for each row the place of its own among them."""
    import pyarrow.compute

    if not column.chunks:
        return [], np.empty(0, np.int64)
    texts = column.chunks[0].dictionary  # that of all chunks, after unify_dictionaries
    if len(texts) and pyarrow.compute.max(pyarrow.compute.binary_length(texts)).as_py() > 4 * limit:
        raise BadValue(f"{file}: a text is longer than {limit} characters; publish it again")
    found = texts.to_pylist()
    for text in found:
        check_text(f"{file}: a text", text, limit, empty=True)
    return found, np.concatenate([chunk.indices.to_numpy() for chunk in column.chunks]).astype(np.int64)


def _one(
    about: str, levels: list[str], images: np.ndarray, places: np.ndarray, values: np.ndarray, kept: np.ndarray
) -> Values:
    """The rows of one key, which come image by image, each with the same levels in one order."""
    images, places, values, kept = (
        column.reshape(-1, len(np.unique(places))) if len(column) % len(np.unique(places)) == 0 else column[:, None]
        for column in (images, places, values, kept)
    )
    if (images != images[:, :1]).any() or (places != places[0]).any() or (kept != kept[:, :1]).any():
        raise BadValue(f"{about} are not image by image, each with the same levels; publish it again")
    if len(np.unique(images[:, 0])) != len(images) or images.min() < -1:
        raise BadValue(f"{about} name an image twice, or one that there is not; publish it again")
    if len(np.unique(places[0])) != places.shape[1] or len({int(k) == 2 for k in kept[:, 0]}) > 1:
        raise BadValue(
            f"{about} name a level twice, or say of some images alone whether they are kept; publish it again"
        )
    known = None if kept[0, 0] == 2 else kept[:, 0].astype(bool)
    return Values(images[:, 0], tuple(levels[place] for place in places[0]), values, known)


def check_png(file: Path) -> None:
    """Raise BadValue unless a file is one PNG picture of bounded size, without animation and with nothing behind it."""
    from PIL import Image

    raw = file.read_bytes()
    if not raw.startswith(MAGIC):
        raise BadValue(f"{file} is no PNG (it begins with {raw[:8].hex() or 'nothing'}); save the picture as PNG")
    header = raw[8:33]
    width, height = (int.from_bytes(header[start : start + 4], "big") for start in (8, 12))
    if header[:8] != b"\x00\x00\x00\rIHDR" or not (0 < width <= SIDE and 0 < height <= SIDE):
        raise BadValue(f"{file} is a PNG of {width} x {height} pixels; at most {SIDE} x {SIDE} are taken")
    _check_chunks(file, raw)
    try:
        with warnings.catch_warnings(action="error"), Image.open(io.BytesIO(raw), formats=("PNG",)) as picture:
            picture.load()
    except Exception as error:  # whatever a decoder of strangers' bytes comes to
        raise BadValue(f"{file} cannot be decoded ({said(str(error))}); save the picture again") from None


def _check_chunks(file: Path, raw: bytes) -> None:
    place, kind = len(MAGIC), b""
    while kind != b"IEND":
        length, kind = int.from_bytes(raw[place : place + 4], "big"), raw[place + 4 : place + 8]
        end = place + 8 + length
        if len(raw) < end + 4 or zlib.crc32(raw[place + 4 : end]) != int.from_bytes(raw[end : end + 4], "big"):
            raise BadValue(f"{file} is cut off or damaged; save the picture again")
        if kind not in CHUNKS:
            raise BadValue(
                f"{file} has the part '{said(kind.decode('latin1'))}'; save it as a plain PNG, without profiles"
            )
        place = end + 4
    if place != len(raw):
        raise BadValue(f"{file} has {len(raw) - place} bytes behind the picture; save the picture again")
