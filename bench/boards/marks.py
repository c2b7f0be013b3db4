"""Marks of maintainers: which records of submissions they ran again, in a file of the board that no submission may
touch. Uses neither torch nor plugins."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.boards.folder import RECORDS
from bench.boards.reruns import COMPARED
from bench.boards.submissions.metadata import NAME
from bench.errors import BadValue, EnvironmentProblem
from bench.files import read_file
from bench.shapes import check, list_of, parse_toml, table, text

VERIFIED = "verified.toml"
_WORDS = """\
# Records that a maintainer has run again, and which agreed. Written by `bench leaderboard verify --mark`; no submission
# may touch this file.
"""


@dataclass(frozen=True)
class Mark:
    """Records of a submission that a new run has confirmed: their `keys`, and what of them was `compared`. `checksum`
    is that of the submission's files, `commit` the suite's, and `nonce` drew the lot; "" for all records."""

    submission: str
    checksum: str
    commit: str
    date: str
    nonce: str
    compared: str
    keys: tuple[str, ...]


def _form(pattern: str, words: str, empty: bool = False) -> Any:
    return text(100, empty=empty, form=re.compile(pattern), words=words)


_MARK = table(
    {
        "submission": text(64, form=NAME, words="the name of a submission"),
        "checksum": _form(r"[0-9a-f]{64}", "a SHA-256 in hexadecimal digits"),
        "commit": _form(r"[0-9a-f]{40}", "a commit in 40 hexadecimal digits"),
        "date": _form(r"\d{4}-\d\d-\d\d", "a date such as 2026-01-31"),
        "nonce": _form(r"[\w .:-]{0,100}", "letters, digits and _ . : - alone", empty=True),
        "compared": text(300),
        "keys": list_of(_form(r"[0-9a-f]{16}", "a key in 16 hexadecimal digits"), 10_000),
    }
)
_MARKS = table({"mark": list_of(_MARK, 10_000)}, optional=("mark",))


def read_marks(folder: Path) -> list[Mark]:
    """The marks of a board. Raises BadValue for one that is none, or whose submission has changed since."""
    file = folder / VERIFIED
    try:
        raw = read_file(file)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise EnvironmentProblem(f"{file} cannot be read ({error.strerror}); check its permissions") from None
    entries = check(str(file), _MARKS, parse_toml(str(file), raw)).get("mark", [])
    marks = [Mark(**{**entry, "keys": tuple(entry["keys"])}) for entry in entries]
    for mark in marks:
        if mark.checksum != sum_submission(folder, mark.submission):
            raise BadValue(
                f"{file}: submission {mark.submission} is not the one that was verified on {mark.date}; verify it "
                "again, and remove the old mark"
            )
    return marks


def add_mark(folder: Path, name: str, keys: Iterable[str], commit: str, nonce: str) -> None:
    """Note that a new run has confirmed some records of a submission."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    mark = Mark(name, sum_submission(folder, name), commit, today, nonce, COMPARED, tuple(sorted(keys)))
    check(str(folder / VERIFIED), _MARK, {**asdict(mark), "keys": list(mark.keys)})
    lines = [f"{part} = {json.dumps(value, ensure_ascii=False)}\n" for part, value in asdict(mark).items()]
    file = folder / VERIFIED
    start = file.read_text(encoding="utf-8") if file.exists() else _WORDS
    file.write_text("".join([start, "\n[[mark]]\n", *lines]), encoding="utf-8")


def sum_submission(folder: Path, name: str) -> str:
    """The SHA-256 of a submission's records and of the values of their images; "" where it lacks one of them."""
    total = hashlib.sha256()
    for kind in ("jsonl", "values.parquet"):
        try:
            total.update(hashlib.sha256((folder / RECORDS / f"{name}.{kind}").read_bytes()).digest())
        except OSError:
            return ""
    return total.hexdigest()
