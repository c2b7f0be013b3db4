"""All errors that a user can cause. The command line prints them in one line, without a traceback."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from traceback import walk_tb
from typing import Any

# Controls, characters that turn or join text without being seen, halves of characters, those of private meaning, and
# those that are none.
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
# What is drawn as nothing and has another category: a blank of Braille, fillers, and what chooses between glyphs.
BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\ufffc\U0001d159\U000e0100-\U000e01ef]"
)
MARKS, STACKED = ("Mn", "Me"), 2  # accents and the like, and how many of them one character may carry
LISTED = 400  # characters of names in a message


def is_hidden(character: str) -> bool:
    """Whether a character is drawn as nothing, as a blank other than the space, or changes how others are drawn."""
    category = unicodedata.category(character)
    return category in HIDDEN or (category == "Zs" and character != " ") or BLANK.match(character) is not None


def clean(text: str, limit: int | None = 120) -> str:
    """A text that is safe to print: one line without hidden characters, cut to the limit."""
    if limit is not None and len(text) > limit:
        text = text[:limit] + "..."
    if text.isascii() and text.isprintable():
        return text
    shown, marks = "", 0
    for c in text:
        marks = marks + 1 if unicodedata.category(c) in MARKS else 0
        shown += "?" if is_hidden(c) or marks > STACKED else c
    return shown


def quote_error(error: BaseException, limit: int = 120) -> str:
    """The text of an error that others raised, or its type where it has none, safe to print."""
    try:
        text = str(error)
    except Exception:  # of a stranger's class
        text = ""
    return clean(" ".join(text.split()) or type(error).__name__, limit)


class BenchError(Exception):
    """Base of all errors. Its text names the thing, the value and the way out; commands exit with `exit_code`."""

    exit_code = 2

    def __init__(self, text: str = "") -> None:
        super().__init__(clean(" ".join(text.splitlines()), None))  # it may quote anybody


class UnknownName(BenchError):
    """No component, kind, parameter or evidence has this name."""


class BadValue(BenchError):
    """A parameter, option or text has the wrong type, form or range."""


class PluginError(BenchError):
    """A plugin does not import, declares nothing, or clashes with another."""


class EnvironmentProblem(BenchError):
    """Data or a device is missing, or a file cannot be read or written."""

    exit_code = 3


class StoreError(EnvironmentProblem):
    """The store cannot be read or written."""


class CellFailed(BenchError):
    """A cell cannot be computed, and the others go on. `records` holds the finished ones of the run."""

    exit_code = 1

    def __init__(self, text: str, records: Sequence[Any] = ()) -> None:
        super().__init__(text)
        self.records = records


class Diverged(CellFailed):
    """A training loss or a weight is not finite."""


class BadComponent(CellFailed):
    """A component returned something that its kind does not allow."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known names, or the first ones where none is near."""
    known = sorted(set(known))
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.55)
    if near:
        return "; did you mean " + " or ".join(repr(n) for n in near) + "?"
    listed = ", ".join(known) or "none"
    if len(listed) > LISTED:
        listed = f"{listed[:LISTED].rpartition(', ')[0]} and more, {len(known)} in all"
    return f"; known: {listed}"


def summarise_error(error: BaseException, package: str = "") -> str:
    """An unforeseen error in one line: type, text, file and line.

    The line is the last one in `package` on the way to the error, or else the one that raised it.
    """
    places = [(frame.f_globals.get("__name__", ""), frame, line) for frame, line in walk_tb(error.__traceback__)]
    own = [place for place in places if place[0].split(".")[0] == package]
    where = "".join(
        f", {frame.f_code.co_filename.rsplit('/', 1)[-1]}:{line}" for _, frame, line in (own or places)[-1:]
    )
    name, text = type(error).__name__, quote_error(error, 300)
    return f"{name}{': ' + text if text != name else ''}{where}"


def explain_failure(error: Exception) -> str:
    """Why a cell failed, in one line."""
    return str(error) if isinstance(error, BenchError) else summarise_error(error)
