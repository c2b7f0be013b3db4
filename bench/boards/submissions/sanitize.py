"""What strangers send, read strictly: texts, numbers and records that harm nobody, or one line that says what is wrong.

Uses neither torch nor plugins.
"""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import Any

from bench.axes import AXES, KINDS
from bench.boards.record import VERSION, Record, reproducing
from bench.errors import BadValue
from bench.keys import Spec, parse_identity, parse_record

LINE = 200_000  # bytes of a record
DEPTH = 6  # of its brackets
LARGEST = 1e15
CLOSE = 1e-6  # by which a value may miss its range
IMAGES = 100_000  # of one record: what its interval is drawn from has to fit into memory
ENTRIES = 1000  # of a table or list in a record
TEXTS = {
    "metric": 1000,
    "better": 10,
    "unit": 30,
    "help": 1000,
    "paper": 10_000,
    "command": 20_000,
    "key": 16,
    "spec": 50_000,
    "undefined_because": 1000,
}
EMPTY = ("unit", "paper", "undefined_because")  # may be
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")  # controls, what turns or joins text unseen, halves of characters
# A start of a file system, a home or a drive, wherever a value can begin.
ABSOLUTE = re.compile(r"""(?:^|[\s=(,"'])(?:/|~|\\\\|file:)|(?<![A-Za-z0-9])[A-Za-z]:[\\/]""", re.IGNORECASE)
UPWARD = re.compile(r"""(?:^|[\\/\s=(,"'])\.\.(?:$|[\\/\s,)"'#])""")


def said(value: Any, limit: int = 120) -> str:
    """Any value as a text that is safe to print: one line, nothing hidden, cut."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except ValueError:  # a whole number of more digits than Python prints
        text = f"a {type(value).__name__} too long to print"
    cut = text[:limit] + ("..." if len(text) > limit else "")
    return "".join("?" if unicodedata.category(c) in HIDDEN else c for c in cut)


def check_text(about: str, text: Any, limit: int, empty: bool = False, lines: bool = False) -> None:
    """Raise BadValue unless this is a text of at most `limit` characters that all can be seen; `lines` allows tabs and
    line ends."""
    if not isinstance(text, str):
        raise BadValue(f"{about} is {said(text)}, must be a text")
    if not text.strip() and not empty:
        raise BadValue(f"{about} is empty; fill it in")
    if len(text) > limit:
        raise BadValue(f"{about} has {len(text)} characters ({said(text, 60)}); at most {limit} are taken")
    found = next((c for c in text if unicodedata.category(c) in HIDDEN and not (lines and c in "\n\t")), None)
    if found is not None:
        raise BadValue(f"{about} is '{said(text)}' and holds the hidden character U+{ord(found):04X}; write it without")


def check_number(about: str, number: Any, low: float = -LARGEST, high: float = LARGEST) -> None:
    if type(number) not in (int, float) or not low <= number <= high:
        raise BadValue(f"{about} is {said(number)}, must be a number from {low:g} to {high:g}")


def check_count(about: str, count: Any, high: int) -> None:
    if type(count) is not int or not 0 <= count <= high:
        raise BadValue(f"{about} is {said(count)}, must be a whole number from 0 to {high}")


def read_json(about: str, text: str) -> Any:
    """Strict JSON: each key once, no NaN, brackets no deeper than DEPTH."""
    depth = 0
    # A text without its last quote ends with the line, or it would be looked for again from each quote in it.
    for bracket in re.finditer(r"[\[\]{}]", re.sub(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', "", text, flags=re.DOTALL)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > DEPTH:  # told before it is read: what reads it calls itself for every bracket
            raise BadValue(f"{about} has brackets more than {DEPTH} deep ({said(text, 60)}); publish it again")
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except ValueError as error:
        raise BadValue(f"{about} is not strict JSON ({said(str(error))}); publish it again") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key '{said(key, 40)}' stands twice")
        found[key] = value
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def read_record(about: str, line: bytes) -> Record:
    """The record of one line, all of whose fields are what they must be and agree with each other.

    Raises BadValue in one line for the first thing that is not so.
    """
    if len(line) > LINE:
        raise BadValue(f"{about} has {len(line)} bytes; at most {LINE} are taken")
    if b"\r" in line:
        raise BadValue(f"{about} ends in a carriage return; lines end in a line feed alone")
    if line.startswith(b"\xef\xbb\xbf"):
        raise BadValue(f"{about} begins with a byte order mark; write the file without")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise BadValue(f"{about} is not UTF-8 ({said(str(error))}); publish it again") from None
    found = read_json(about, text)
    if not isinstance(found, dict):
        raise BadValue(f"{about} is {said(found)}, must be a record; publish it again")
    fields = [field.name for field in dataclasses.fields(Record)]
    _exactly(about, found, fields, "field")
    for name, limit in TEXTS.items():
        check_text(f"{about}: {name}", found[name], limit, name in EMPTY, name == "paper")
    _check_tables(about, found)
    _check_counts(about, found)
    if found["better"] not in ("higher", "lower"):
        raise BadValue(f"{about}: better is '{said(found['better'])}', must be higher or lower")
    for name, part in [("metric", found["metric"]), *((f"axis {a}", t) for a, t in found["axes"].items())]:
        check_no_path(f"{about}: {name}", part)
    check_no_path(f"{about}: command", found["command"])
    record = Record.parse(line)
    _check_spec(about, record)
    if record.command != reproducing(record.metric, record.axes):
        raise BadValue(
            f"{about}: command is '{said(record.command)}', and metric and axes make another of it; publish it again"
        )
    return record


def _exactly(about: str, found: Collection[str], wanted: Collection[str], what: str) -> None:
    missing, unknown = [n for n in wanted if n not in found], [n for n in found if n not in wanted]
    if missing or unknown:
        texts = [f"no {what} {missing[0]}"] if missing else [f"an unknown {what} '{said(unknown[0])}'"]
        raise BadValue(f"{about} has {texts[0]}; publish it again with this version of the suite")


def _check_tables(about: str, found: Mapping[str, Any]) -> None:
    """Tables and lists: texts of axes and flags, numbers of levels, cost and objective, either in provenance."""
    for name in ("axes", "levels", "cost", "objective", "provenance"):
        table = found[name]
        if not isinstance(table, dict) or len(table) > ENTRIES:
            raise BadValue(f"{about}: {name} is {said(table)}, must be a table of at most {ENTRIES}")
        for entry in table:
            check_text(f"{about}: a name in {name}", entry, 200)
    for axis, text in found["axes"].items():
        if axis not in AXES:
            raise BadValue(f"{about}: axes has '{said(axis)}', which is no axis; there are {', '.join(AXES)}")
        check_text(f"{about}: axis {axis}", text, 2000)
    for level, number in found["levels"].items():
        if number is not None:
            check_number(f"{about}: level '{said(level, 40)}'", number)
    for name, low in (("cost", 0.0), ("objective", -LARGEST)):
        for part, number in found[name].items():
            check_number(f"{about}: {name} of '{said(part, 40)}'", number, low)
    flags = found["flags"]
    if not isinstance(flags, list) or len(flags) > ENTRIES:
        raise BadValue(f"{about}: flags is {said(flags)}, must be a list of at most {ENTRIES} texts")
    for flag in flags:
        check_text(f"{about}: a flag", flag, 1000)
    for part, value in found["provenance"].items():
        inner = value if isinstance(value, dict) else {part: value}
        if len(inner) > ENTRIES:
            raise BadValue(f"{about}: provenance of '{said(part, 40)}' has {len(inner)} entries, at most {ENTRIES}")
        for entry, each in inner.items():
            where = f"{about}: provenance of '{said(entry, 40)}'"
            check_text(where, entry, 200)
            if type(each) in (int, float):
                check_number(where, each)
            else:
                papers = part == "papers"
                check_text(where, each, 10_000 if papers else 1000, empty=True, lines=papers)


def _check_counts(about: str, found: Mapping[str, Any]) -> None:
    """Numbers: finite, values within the range, counts within each other, the interval in order."""
    bounds = found["range"]
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise BadValue(f"{about}: range is {said(bounds)}, must be a list of two numbers or null")
    for bound in bounds:
        if bound is not None:
            check_number(f"{about}: range", bound)
    low, high = (other if bound is None else bound for bound, other in zip(bounds, (-LARGEST, LARGEST), strict=True))
    if low >= high:
        raise BadValue(f"{about}: range is {said(bounds)}, whose lower end is not below the upper")
    for name in ("value", "value_kept"):
        if found[name] is not None:
            check_number(f"{about}: {name}", found[name], low - CLOSE, high + CLOSE)
    check_count(f"{about}: n", found["n"], IMAGES)
    check_count(f"{about}: undefined", found["undefined"], found["n"])
    if found["kept"] is not None:
        check_count(f"{about}: kept", found["kept"], found["n"])
    ci95 = found["ci95"]
    if ci95 is not None:
        if not isinstance(ci95, list) or len(ci95) != 2:
            raise BadValue(f"{about}: ci95 is {said(ci95)}, must be null or two numbers")
        for end in ci95:
            check_number(f"{about}: ci95", end)
        if ci95[0] > ci95[1]:
            raise BadValue(f"{about}: ci95 is {said(ci95)}, whose lower end is above the upper")


def check_no_path(about: str, text: str) -> None:
    """Raise BadValue where a text leads somewhere on a machine."""
    if ABSOLUTE.search(text) or UPWARD.search(text):
        raise BadValue(
            f"{about} is '{said(text)}' and holds a path of a machine; publish it again, which writes NAME#CHECKSUM"
        )


def _check_spec(about: str, record: Record) -> None:
    """Raise BadValue unless the key is the spec's, and the spec is about this metric and these axes."""
    read_json(f"{about}: spec", record.spec)
    try:
        spec = Spec.parse(record.spec)
    except ValueError:
        raise BadValue(
            f"{about}: spec is '{said(record.spec)}', which is not as the suite writes it; publish it again"
        ) from None
    for name, version in spec.versions.items():
        check_text(f"{about}: a name in spec", name, 200)
        check_count(f"{about}: spec: version of '{said(name, 40)}'", version, 10**9)
    for axis, text in [("metric", spec.made), *spec.choices.items()]:
        check_text(f"{about}: spec: {said(axis, 40)}", text, 5000)
        check_no_path(f"{about}: spec: {said(axis, 40)}", text)
    if spec.key != record.key:
        raise BadValue(f"{about}: key is {record.key}, and its spec has the key {spec.key}; publish it again")
    version_and_name = parse_record(spec.made)
    if not version_and_name or version_and_name[1] != _name(record.metric):
        raise BadValue(
            f"{about}: metric is '{said(record.metric)}', and spec says '{said(spec.made)}'; publish it again"
        )
    if version_and_name[0] != VERSION:
        raise BadValue(
            f"{about} is record@{version_and_name[0]}, and the suite makes record@{VERSION} now; run it again"
        )
    _exactly(f"{about}: spec", spec.choices, record.axes, "axis")
    for axis, text in record.axes.items():
        stated = spec.choices[axis]
        fits = parse_identity(stated, KINDS[axis]) == _name(text) if axis in KINDS else stated == text
        if not fits:
            raise BadValue(f"{about}: axis {axis} is '{said(text)}', and spec says '{said(stated)}'; publish it again")


def _name(text: str) -> str:
    return text.partition(":")[0]
