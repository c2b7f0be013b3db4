"""Tell data sets apart by what networks see of them, not by their files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterable, Mapping

import PIL
from PIL import features
from tqdm.auto import tqdm

import bench
from bench.files import cache_folder
from bench.images import UNREADABLE, decode
from bench_datasets.splits import Files

BLOCK = 1000  # images read at once


def fingerprint_of(splits: Mapping[str, Files], classes: tuple[str, ...], sums: Iterable[str]) -> str:
    """Return 16 digits that follow from the decoded pixels, labels and order of all images, and from the classes.

    Decoding takes a while, so the result is kept in the user's cache folder under `sums`, the checksums of the files,
    and the versions of the decoders.
    """
    decoders = f"pixels 1, pillow {PIL.__version__}, jpeg {features.version('jpg')}"
    name = hashlib.sha256("\n".join([decoders, *sums]).encode()).hexdigest()[:32]
    kept = cache_folder() / "pixels"
    with contextlib.suppress(OSError, ValueError):
        text = (kept / name).read_text()
        int(text, 16)
        if len(text) == 16:
            return text
    found = _compute(splits, classes)
    with contextlib.suppress(OSError):  # it is computed again, then
        kept.mkdir(parents=True, exist_ok=True)
        part = kept / f"{name}.{uuid.uuid4().hex[:8]}"
        part.write_text(found)
        os.replace(part, kept / name)
    return found


def _compute(splits: Mapping[str, Files], classes: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\n".join(classes).encode())
    total = sum(files.count for files in splits.values())
    with tqdm(total=total, desc="fingerprint", unit="image", leave=False, disable=None, delay=1) as bar:
        for split, files in sorted(splits.items()):
            digest.update(f"\n{split} {files.count}\n".encode())
            if files.labels is not None:
                digest.update(files.labels.numpy().astype("<i8").tobytes())
            for start in range(0, files.count, BLOCK):
                rows = range(start, min(start + BLOCK, files.count))
                for row, content in zip(rows, files.images(rows), strict=True):
                    digest.update(_pixels(content, files.name(row)))
                bar.update(len(rows))
    return digest.hexdigest()[:16]


def _pixels(content: bytes, about: str) -> bytes:
    try:
        image = decode(content)
    except UNREADABLE as error:
        raise bench.EnvironmentProblem(f"{about} cannot be decoded ({' '.join(str(error).split())}); fix it") from None
    return f"{image.width}x{image.height}\n".encode() + image.tobytes()
