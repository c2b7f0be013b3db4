"""Files that anyone can have: each is known by its checksum, and lies in a folder at hand or at an address."""

from __future__ import annotations

import hashlib
import os
import urllib.request
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from bench.errors import EnvironmentProblem, quote_error
from bench.files import cache_folder, check_file

FILES = "files"  # of the cache
SHOWN = 12  # digits of a checksum in messages
PART = 2**16  # bytes
PATIENCE = 60  # seconds without an answer


@dataclass(frozen=True)
class Download:
    """A file by its name, which is its path below a folder, its sha256, its size in bytes, and its address, or "".

    `below`: the folder that it belongs to in the data folder, with a slash at its end, or "".
    """

    name: str
    sha256: str
    size: int
    url: str
    below: str = ""

    def fetch(self, folders: Iterable[Path] = (), kept: Path | None = None) -> Path:
        """Find the file in one of some folders or in the cache, or download it to the cache, to the path `kept` in it.

        Raises EnvironmentProblem where a folder has another file of this name, and where there is none anywhere.
        """
        looked = [folder / self.name for folder in folders]
        for place in looked:
            if place.exists():
                self.check(place)
                return place
        place = kept or cache_folder() / FILES / self.sha256 / Path(self.name).name
        if not place.exists() or self._find_fault(place):
            where = f"looked in {' and '.join(map(str, looked))}" if looked else "no folder at hand is set"
            self._download(place, where)
        return place

    def check(self, place: Path) -> None:
        """Raise EnvironmentProblem unless the file at a place is this one."""
        if wrong := self._find_fault(place):
            raise EnvironmentProblem(f"{place} {wrong}; {self._tell_address()}, or remove it")

    def _find_fault(self, file: Path) -> str:
        """What tells a file from the expected one, or ""."""
        try:
            check_file(file)
            size = file.stat().st_size
            if size != self.size:
                return f"has {size} bytes instead of {self.size}"
            with file.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        return "" if found == self.sha256 else f"has the sha256 {found[:SHOWN]}... instead of {self.sha256[:SHOWN]}..."

    def _download(self, place: Path, where: str) -> None:
        if not self.url:
            raise EnvironmentProblem(f"file {self.name} is missing ({where}), and has no address; {self._tell_place()}")
        part = place.with_name(f"{place.name}.{uuid.uuid4().hex[:8]}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if not self.url.startswith(("https://", "http://")):
                raise ValueError("not an address of the web")
            self._load(part)
            if wrong := self._find_fault(part):
                raise EnvironmentProblem(f"{self.url} {wrong}; {self._tell_place()}")
            os.replace(part, place)
        except (OSError, ValueError, HTTPException) as error:  # the errors of urllib are OSErrors
            raise EnvironmentProblem(
                f"file {self.name} is missing ({where}), and {self.url} cannot be reached or kept "
                f"({quote_error(error)}); {self._tell_place()}"
            ) from None
        finally:
            part.unlink(missing_ok=True)

    def _load(self, place: Path) -> None:
        from tqdm.auto import tqdm  # which no check of submissions needs

        with (
            urllib.request.urlopen(self.url, timeout=PATIENCE) as answer,
            place.open("xb") as file,
            tqdm(total=self.size, desc=self.name, unit="B", unit_scale=True, leave=False, disable=None, delay=1) as bar,
        ):
            while bar.n <= self.size and (part := answer.read(PART)):
                bar.update(file.write(part))

    def _tell_address(self) -> str:
        return f"take it from {self.url}" if self.url else f"use the file with the sha256 {self.sha256}"

    def _tell_place(self) -> str:
        return f"put it into DATA/{self.below}{self.name} and name DATA with --data-dir or BENCH_DATA_DIR"


def fetch_path(path: Path, files: Sequence[Download], folders: Iterable[Path]) -> Path:
    """Find a path to a file, or to a folder of files, as `Download.fetch` does; the files are those at and below it."""
    for folder in folders:
        if (folder / path).exists():
            for file in files:
                file.check(folder / file.name)
            return folder / path
    together = hashlib.sha256("\n".join(f"{file.name} {file.sha256}" for file in files).encode()).hexdigest()
    kept = cache_folder() / FILES / together
    for file in files:
        file.fetch(folders, kept / file.name)
    return kept / path
