"""Reads records that strangers send: each is harmless and consistent, or one line says what is wrong.

Needs neither torch nor plugins.
"""

from __future__ import annotations

import json
import math
import re
from functools import partial
from typing import Any, NamedTuple

from bench.axes import AXES, KINDS
from bench.boards.choices import IMAGES
from bench.boards.record import VERSION, Record, make_command
from bench.boards.submissions.identities import list_parts
from bench.errors import BadValue
from bench.keys import Spec, parse_record
from bench.shapes import Misfit, Shape, check, clean, list_of, nullable, number, one_of, quote, table, text

LINE = 200_000  # bytes of a record
DEPTH = 6  # of its brackets
CLOSE = 1e-6  # by which a value may miss its range
AGAIN = "publish it again with this version of the suite"
# A text without a start of a file system, a home or a drive, wherever a value can begin, and without a way up.
NO_PATH = re.compile(
    r"""(?!.*(?:(?:^|[\s=(,"'])(?:/|~|\\\\|file:)|(?<![a-z0-9])[a-z]:[\\/]))"""
    r"""(?!.*(?:^|[\\/\s=(,"'])\.\.(?:$|[\\/\s,)"'#])).*""",
    re.IGNORECASE | re.DOTALL,
)
_pathless = partial(
    text, form=NO_PATH, words="without paths of a machine; publish it again, which writes NAME#CHECKSUM"
)


class Line(NamedTuple):
    """A record, and the file and line that have it."""

    about: str
    record: Record


def _named(limit: int) -> Shape:
    """A text that names components: in ASCII, or two names could look alike."""
    words = _pathless(limit)

    def shape(value: Any) -> str:
        if not words(value).isascii():
            raise Misfit(f"is {quote(value)}, must be in ASCII; rename what it names")
        return str(value)

    return shape


def _pair(end: Shape, may_be_equal: bool = False) -> Shape:
    """Two numbers in order, or null where the shape of an end allows it."""

    def shape(value: Any) -> tuple[float | None, ...]:
        if not isinstance(value, list) or len(value) != 2:
            raise Misfit(f"is {quote(value)}, must be a list of two numbers")
        low, high = list_of(end)(value)
        if None not in (low, high) and (low > high or (low == high and not may_be_equal)):
            raise Misfit(f"is {quote(value)}, must have its lower end first")
        return low, high

    return shape


def _detail(limit: int, lines: bool = False) -> Shape:
    """A number, a text, or a table of both."""
    words = text(limit, empty=True, lines=lines)

    def leaf(value: Any) -> Any:
        return (number() if type(value) in (int, float) else words)(value)

    return lambda value: (table({}, others=leaf) if isinstance(value, dict) else leaf)(value)


_RECORD = table(
    {
        "metric": _named(1000),
        "axes": table({axis: _named(2000) for axis in AXES}, optional=AXES),
        "value": nullable(number()),
        "value_kept": nullable(number()),
        "n": number(0, IMAGES, whole=True),
        "kept": nullable(number(0, IMAGES, whole=True)),
        "undefined": number(0, IMAGES, whole=True),
        "ci95": nullable(_pair(number(), may_be_equal=True)),
        "levels": table({}, others=nullable(number())),
        "better": one_of("higher", "lower"),
        "unit": text(30, empty=True),
        "help": text(1000),
        "cost": table({}, others=number(low=0)),
        "flags": list_of(text(1000)),
        "paper": text(10_000, empty=True, lines=True),
        "command": _pathless(20_000),
        "key": text(16),
        "spec": text(50_000),
        "undefined_because": text(1000, empty=True),
        "objective": table({}, others=number()),
        "range": _pair(nullable(number())),
        "grain": nullable(number(low=1e-9)),
        "provenance": table({"papers": _detail(10_000, lines=True)}, optional=["papers"], others=_detail(1000)),
    },
    optional=["grain"],
    advice=AGAIN,
)
_SPEC = table(
    {
        "made": _named(5000),
        "versions": table({}, others=number(0, 10**9, whole=True)),
        "choices": table(dict.fromkeys(AXES, _named(5000)), optional=AXES),
    }
)


def read_json(about: str, text: str) -> Any:
    """Strict JSON: each key once, no NaN, brackets no deeper than DEPTH."""
    depth = 0
    # A text without a last quote is dropped to its end, or the pattern would try again from each quote inside it.
    for bracket in re.finditer(r"[\[\]{}]", re.sub(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', "", text, flags=re.DOTALL)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > DEPTH:  # before parsing, since the parser calls itself for every bracket
            raise BadValue(f"{about} has brackets more than {DEPTH} deep ({quote(text, 60)}); publish it again")
    try:
        return json.loads(text, object_pairs_hook=_reject_repeats, parse_constant=_reject_constant)
    except ValueError as error:
        raise BadValue(f"{about} is not strict JSON ({clean(str(error))}); publish it again") from None


def _reject_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for key, value in pairs:
        if key in parts:
            raise ValueError(f"the key {quote(key, 40)} appears twice")
        parts[key] = value
    return parts


def _reject_constant(text: str) -> None:
    raise ValueError(f"{text} is not a number")


def read_record(about: str, line: bytes) -> Record:
    """The record of one line, after checking every field by itself and against the others.

    Raises BadValue, in one line, for the first thing that is wrong.
    """
    if len(line) > LINE:
        raise BadValue(f"{about} has {len(line)} bytes; at most {LINE} are allowed")
    if b"\r" in line:
        raise BadValue(f"{about} ends in a carriage return; end lines with a line feed alone")
    if line.startswith(b"\xef\xbb\xbf"):
        raise BadValue(f"{about} begins with a byte order mark; write the file without one")
    try:
        decoded = line.decode()
    except UnicodeDecodeError as error:
        raise BadValue(f"{about} is not UTF-8 ({clean(str(error))}); publish it again") from None
    parts = check(about, _RECORD, read_json(about, decoded))
    record = Record(**{**parts, "flags": tuple(parts["flags"])})
    low, high = (sign * math.inf if end is None else end for sign, end in zip((-1, 1), record.range, strict=True))
    for name in ("value", "value_kept"):
        check(f"{about}: {name}", nullable(number(low - CLOSE, high + CLOSE)), getattr(record, name))
    for name in ("undefined", "kept"):
        check(f"{about}: {name}", nullable(number(0, record.n, whole=True)), getattr(record, name))
    _check_spec(about, record)
    if record.command != make_command(record.metric, record.axes):
        raise BadValue(f"{about}: command is {quote(record.command)}, but metric and axes give another; {AGAIN}")
    return record


def _check_spec(about: str, record: Record) -> None:
    """Raise BadValue unless the key is the spec's, and the spec is about this metric and these axes."""
    read_json(f"{about}: spec", record.spec)
    try:
        spec = Spec.parse(record.spec)
    except ValueError:
        raise BadValue(f"{about}: spec is {quote(record.spec)}, not as the suite writes it; publish it again") from None
    check(f"{about}: spec", _SPEC, vars(spec))
    if spec.key != record.key:
        raise BadValue(f"{about}: key is {record.key}, but its spec has the key {spec.key}; publish it again")
    version, metric = parse_record(spec.made) or (0, "")
    if not metric:
        raise BadValue(f"{about}: metric is {quote(record.metric)}, but spec says {quote(spec.made)}; publish it again")
    if version != VERSION:
        raise BadValue(f"{about} is record@{version}, but the suite now makes record@{VERSION}; run it again")
    _check_component(f"{about}: metric", "metric", record.metric, spec.made.partition("/")[2])
    for axis in sorted({*spec.choices, *record.axes}):
        stated, chosen = spec.choices.get(axis, ""), record.axes.get(axis, "")
        if axis in KINDS:
            _check_component(f"{about}: axis {axis}", KINDS[axis], chosen, stated)
        elif stated != chosen:
            raise BadValue(f"{about}: axis {axis} is {quote(chosen)}, but spec says {quote(stated)}; publish it again")


def _check_component(about: str, kind: str, text: str, identity: str) -> None:
    """Raise BadValue unless a text is in canonical form and agrees with its identity."""
    try:
        list_parts(kind, text, identity)
    except BadValue as error:
        raise BadValue(
            f"{about} is {quote(text)}, but spec says {quote(identity)} ({clean(str(error))}); publish it again"
        ) from None
