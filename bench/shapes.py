"""Shapes: functions that take a value from a file and return it, or say what it must be instead. Needs no torch.

A shape raises `Misfit`; `check` makes one line of it, which names the file, the field, the value and what is allowed.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from bench.errors import MARKS, STACKED, BadValue, clean, is_hidden, quote_error, suggestion

Shape: TypeAlias = Callable[[Any], Any]
LARGEST = 1e15
ENTRIES = 1000  # of a table or a list


class Misfit(Exception):
    """A value that does not have its shape: what is wrong, and the path to the part where it is."""


def check(about: str, shape: Shape, value: Any) -> Any:
    """The value as its shape returns it. Raises BadValue in one line that begins with `about`."""
    try:
        return shape(value)
    except Misfit as misfit:
        problem, *path = misfit.args
        raise BadValue(f"{': '.join([about, *path])} {problem}") from None


def parse_toml(about: str, raw: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and TOMLDecodeError are ValueErrors
        raise BadValue(
            f"{about} is not TOML ({quote_error(error)}); put texts in quotes and lists in brackets"
        ) from None


def find_likeness(text: str) -> str:
    """What a reader may take a name in ASCII for: names that look alike have the same."""
    likeness = re.sub(r"[\s_]+", lambda match: match[0][0], text.lower().strip())
    return likeness.replace("rn", "m").replace("vv", "w").translate(str.maketrans("01i|", "olll"))


def quote(value: Any, limit: int = 120) -> str:
    """Any value as a text that is safe to print; a text in quotes."""
    if isinstance(value, str):
        return f"'{clean(value, limit)}'"
    try:
        return clean(repr(value), limit)
    except (ValueError, RecursionError):  # of more digits than Python prints, or of too many parts in parts
        return f"a {type(value).__name__} too long to print"


def text(
    limit: int, empty: bool = False, lines: bool = False, form: re.Pattern[str] | None = None, words: str = ""
) -> Shape:
    """A text of at most `limit` characters, none hidden, in the form that `words` describe. `lines` allows tabs and
    line ends."""

    def shape(value: Any) -> str:
        if not isinstance(value, str):
            raise Misfit(f"is {quote(value)}, must be a text")
        if not value.strip() and not empty:
            raise Misfit("is empty; fill it in")
        if len(value) > limit:
            raise Misfit(f"has {len(value)} characters ({quote(value, 60)}); at most {limit} are allowed")
        rest = value.translate({ord("\n"): None, ord("\t"): None}) if lines else value
        marks = 0
        for c in "" if rest.isascii() and rest.isprintable() else rest:
            marks = marks + 1 if unicodedata.category(c) in MARKS else 0
            if is_hidden(c):
                raise Misfit(f"is {quote(value)} and contains the hidden character U+{ord(c):04X}; remove it")
            if marks > STACKED:
                raise Misfit(f"is {quote(value)} and stacks more than {STACKED} marks on a character; remove them")
        if form and not form.fullmatch(value):
            raise Misfit(f"is {quote(value)}, must be {words}")
        return value

    return shape


def number(low: float = -LARGEST, high: float = LARGEST, whole: bool = False) -> Shape:
    kinds, words = ((int,), "a whole number") if whole else ((int, float), "a number")

    def shape(value: Any) -> Any:
        if type(value) not in kinds or not low <= value <= high:
            raise Misfit(f"is {quote(value)}, must be {words} from {low:g} to {high:g}")
        return value

    return shape


def one_of(*choices: str) -> Shape:
    def shape(value: Any) -> Any:
        if value not in choices:
            raise Misfit(f"is {quote(value)}, must be {' or '.join(choices)}")
        return value

    return shape


def nullable(shape: Shape) -> Shape:
    return lambda value: None if value is None else shape(value)


def list_of(entry: Shape, most: int = ENTRIES) -> Shape:
    def shape(value: Any) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise Misfit(f"is {quote(value)}, must be a list of at most {most} entries")
        return [_inside(f"[{place}]", entry, each) for place, each in enumerate(value)]

    return shape


def table(
    known: Mapping[str, Shape], optional: Collection[str] = (), others: Shape | None = None, advice: str = ""
) -> Shape:
    """A table of the known keys, of which the optional ones may be missing, and of any others if these have a shape.
    `advice` is the way out where keys are unknown or missing."""

    def shape(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) > ENTRIES:
            raise Misfit(f"is {quote(value)}, must be a table of at most {ENTRIES} entries")
        for key in value:
            _inside("(name)", text(200), key)
            if key not in known and not others:
                way_out = f"; {advice}" if advice else suggestion(key, known)
                raise Misfit(f"has the unknown key {quote(key)}{way_out}")
        missing = [key for key in known if key not in value and key not in optional]
        if missing:
            raise Misfit(f"has no {', '.join(missing)}; {advice or 'add what is missing'}")
        return {key: _inside(key, known.get(key, others), entry) for key, entry in value.items()}

    return shape


def _inside(key: str, shape: Shape | None, value: Any) -> Any:
    try:
        return shape(value) if shape else value
    except Misfit as misfit:
        problem, *path = misfit.args
        raise Misfit(problem, ".".join([clean(key, 40), *path]).replace(".[", "[")) from None
