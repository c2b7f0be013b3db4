"""What a submission says about itself, in a TOML file beside its records. Needs neither torch nor plugins."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BadValue
from bench.files import check_file
from bench.shapes import check, clean, list_of, number, one_of, parse_toml, quote, table, text

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
SUFFIX = ".toml"
SIZE = 20_000  # bytes
LOGIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)?")
# No names or passwords before the host; of other characters, those that RFC 3986 knows.
URL = re.compile(
    r"https?://[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::\d{1,5})?(?:[/?#][A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*)?"
    r"|doi:10\.\d{4,9}/[A-Za-z0-9._~:/\[\]()+,;=%-]+|"
)
_LINK = text(500, empty=True, form=URL, words="empty or begin with https://, http:// or doi:")
_META = table(
    {
        "title": text(200),
        "authors": list_of(text(200), 200),
        "year": number(1900, 2200, whole=True),
        "paper": _LINK,
        "code": _LINK,
        "licence": text(100),
        "hardware": text(300),
        "selection": text(1000),
        "selected_on": one_of("validation", "test", "train", "none"),
        "supersedes": list_of(text(64, form=NAME, words="the name of another submission to this board"), 200),
        "published": text(10, empty=True, form=re.compile(r"(\d{4}-\d\d-\d\d)?"), words="a date such as 2026-01-31"),
        "owner": text(39, empty=True, form=LOGIN, words="a login at GitHub, such as ada-lovelace"),
    },
    optional=("supersedes", "owner", "published"),
)


@dataclass(frozen=True)
class Meta:
    """`paper` and `code` are URLs or empty; `selection` says how parameters were selected, `selected_on` on which
    split; `supersedes` names the submissions that this one corrects, `owner` is the login of who may correct it, and
    `published` a date."""

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
    owner: str = ""
    published: str = ""


def read_meta(file: Path) -> Meta:
    """The metadata in a file. Raises BadValue in one line that names the file, the key, the value and the way out."""
    parts = _read_toml(file)
    # Named together: they are what has to be filled in after a first publication.
    free = ("paper", "code", "supersedes", "owner", "published")
    empty = [k for k, value in parts.items() if k not in free and value in ("", [])]
    if empty and parts.keys() <= {field.name for field in dataclasses.fields(Meta)}:
        raise BadValue(f"{file}: {', '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty; fill in what is true")
    return Meta(**check(str(file), _META, parts))


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        check_file(file)
        with file.open("rb") as stream:
            raw = stream.read(SIZE + 1)
    except OSError as error:
        raise BadValue(
            f"{file} cannot be read ({error.strerror}); publish without --meta to get one to fill in"
        ) from None
    if len(raw) > SIZE:
        raise BadValue(f"{file} has more than {SIZE} bytes; shorten it")
    return parse_toml(str(file), raw)


def draft(name: str, hardware: str, today: datetime.date) -> str:
    """A file to fill in: `validate` says which keys are empty."""
    title = clean(name.replace("_", " ").replace("-", " "))
    return f"""\
title = {json.dumps(title)}
authors = []            # ["Ada Lovelace", "Charles Babbage"]
year = {today.year}
paper = ""              # a URL: https://... or doi:..., or nothing
code = ""               # a URL, or nothing
licence = ""            # of the results: "CC0-1.0" or "MIT"
hardware = {json.dumps(clean(hardware, 300))}
selection = ""          # a sentence: how parameters were selected
published = "{today}"
selected_on = ""        # the split they were selected on: "validation", "test", "train" or "none"
supersedes = []         # submissions to this board that this one corrects
owner = ""              # your login at GitHub: nobody else can correct these results
"""


def read_corrections(records: Path) -> dict[str, frozenset[str]]:
    """What each submission supersedes, directly or through others, from the metadata in a folder of records.

    `read_meta` checks the rest of a file: a board is built while metadata are still being filled in.
    """
    return follow_supersedes({file.stem: read_supersedes(file) for file in sorted(records.glob(f"*{SUFFIX}"))})


def read_supersedes(file: Path) -> list[str]:
    """The submissions that a file of metadata names in `supersedes`."""
    names = _read_toml(file).get("supersedes", [])
    return [n for n in names if isinstance(n, str)] if isinstance(names, list) else []


def follow_supersedes(direct: Mapping[str, Iterable[str]]) -> dict[str, frozenset[str]]:
    """What each name supersedes, directly or through others. Raises BadValue where a name supersedes itself."""
    all_of = {}
    for name in direct:
        reached: set[str] = set()
        left = list(direct[name])
        while left:
            other = left.pop()
            if other not in reached:
                reached.add(other)
                left += direct.get(other, ())
        if name in reached:
            raise BadValue(
                f"submission {quote(name)} supersedes itself, directly or through others; remove one of them"
            )
        all_of[name] = frozenset(reached)
    return all_of
