"""What a submission says of itself, in a TOML file beside its records. Uses neither torch nor plugins."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.boards.submissions.sanitize import check_text, said
from bench.errors import BadValue, UnknownName, suggestion

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
SUFFIX = ".toml"
SIZE = 20_000  # bytes
SPLITS = ("validation", "test", "train", "none")
TEXTS = {"title": 200, "paper": 500, "code": 500, "licence": 100, "hardware": 300, "selection": 1000}
URLS = ("paper", "code")
# No names or passwords before the host, and of other characters those that RFC 3986 knows.
URL = re.compile(
    r"https?://[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::\d{1,5})?(?:[/?#][A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*)?"
    r"|doi:10\.\d{4,9}/[A-Za-z0-9._~:/\[\]()+,;=%-]+"
)


@dataclass(frozen=True)
class Meta:
    """`paper` and `code` are URLs or empty; `selection` says how parameters were selected, `selected_on` on which
    split; `supersedes` names the submissions that this one corrects."""

    title: str
    authors: list[str]
    year: int
    paper: str
    code: str
    licence: str
    hardware: str
    selection: str
    selected_on: str
    supersedes: list[str] = dataclasses.field(default_factory=list)


def read_meta(file: Path) -> Meta:
    """The metadata in a file. Raises BadValue or UnknownName in one line, naming file, key, value and way out."""
    found = _toml(file)
    keys = [field.name for field in dataclasses.fields(Meta)]
    for key in found:
        if key not in keys:
            raise UnknownName(f"{file}: no key called '{said(key)}'{suggestion(said(key), keys)}")
    missing = [key for key in keys if key not in found and key != "supersedes"]
    if missing:
        raise BadValue(f"{file} has no {', '.join(missing)}; add what is missing")
    # Told together: this is what has to be filled in after a first publication.
    empty = [key for key in keys if key not in (*URLS, "supersedes") and found[key] in ("", [])]
    if empty:
        raise BadValue(f"{file}: {', '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty; fill in what is true")
    for key, limit in TEXTS.items():
        check_text(f"{file}: {key}", found[key], limit, empty=key in URLS)
    _check_list(file, "authors", found["authors"], 200)
    year = found["year"]
    if type(year) is not int or not 1900 <= year <= 2200:
        raise BadValue(f"{file}: year is {said(repr(year))}, must be a year such as 2026, without quotes")
    for key in URLS:
        if found[key] and not URL.fullmatch(found[key]):
            raise BadValue(
                f"{file}: {key} is '{said(found[key])}', must be empty or begin with https://, http:// or doi:"
            )
    if found["selected_on"] not in SPLITS:
        raise BadValue(f"{file}: selected_on is {said(found['selected_on'])}, must be {' or '.join(SPLITS)}")
    supersedes = found.get("supersedes", [])
    _check_list(file, "supersedes", supersedes, 64)
    for name in supersedes:
        if not NAME.fullmatch(name):
            raise BadValue(f"{file}: supersedes has '{said(name)}', must be names of other submissions to this board")
    return Meta(**found)


def _toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            raw = stream.read(SIZE + 1)
    except OSError as error:
        raise BadValue(
            f"{file} cannot be read ({error.strerror}); publish without --meta writes one to fill in"
        ) from None
    if len(raw) > SIZE:
        raise BadValue(f"{file} has more than {SIZE} bytes; shorten it")
    try:
        return tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and TOMLDecodeError are ValueErrors
        raise BadValue(f"{file} is not TOML ({said(str(error))}); texts stand in quotes, lists in brackets") from None


def _check_list(file: Path, key: str, found: Any, limit: int) -> None:
    if not isinstance(found, list) or len(found) > 200:
        raise BadValue(f"{file}: {key} is {said(found)}, must be a list of at most 200 texts")
    for text in found:
        check_text(f"{file}: {key}", text, limit)


def draft(name: str, hardware: str, year: int) -> str:
    """A file to fill in: `validate` says which keys are empty."""
    title = said(name.replace("_", " ").replace("-", " "))
    return f"""\
title = {json.dumps(title)}
authors = []            # ["Ada Lovelace", "Charles Babbage"]
year = {year}
paper = ""              # a URL: https://... or doi:..., or nothing
code = ""               # a URL, or nothing
licence = ""            # of the results: "CC0-1.0" or "MIT"
hardware = {json.dumps(said(hardware, 300))}
selection = ""          # a sentence: how parameters were selected
selected_on = ""        # the split they were selected on: "validation", "test", "train" or "none"
supersedes = []         # submissions to this board that this one corrects
"""


def corrections(records: Path) -> dict[str, frozenset[str]]:
    """By submission, those that it supersedes, from the metadata in a folder of records; also through others.

    All else in a file is left to `read_meta`: a board is built while metadata are still being filled in."""
    return closed({file.stem: superseded(file) for file in sorted(records.glob(f"*{SUFFIX}"))})


def superseded(file: Path) -> list[str]:
    """The submissions that a file of metadata names in `supersedes`."""
    names = _toml(file).get("supersedes", [])
    return [n for n in names if isinstance(n, str)] if isinstance(names, list) else []


def closed(direct: Mapping[str, Iterable[str]]) -> dict[str, frozenset[str]]:
    """What each name supersedes, also through others. Raises BadValue where that leads back to it."""
    found = {}
    for name in direct:
        reached: set[str] = set()
        left = list(direct[name])
        while left:
            other = left.pop()
            if other not in reached:
                reached.add(other)
                left += direct.get(other, ())
        if name in reached:
            raise BadValue(f"submission {said(name)}: supersedes leads back to itself; leave out one of the two")
        found[name] = frozenset(reached)
    return found
