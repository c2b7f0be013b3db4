"""Specs: the texts that say what a value is made from, and the keys that they hash to.

A spec is JSON of three parts: what is made, the versions of the values along its path, and the identity of the choice
along each axis that it reaches. The store names folders by keys; records publish their specs, so that keys can be
checked where no plugin is installed. For the same reason the texts and identities of components are read here. Needs
no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from bench.errors import BadValue, clean
from bench.files import DEEPEST, parse_json

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")  # of a component
_IDENTITY = re.compile(r"(\w+)/(\w+)@(\d+)\(")
_WHOLE = re.compile(r"([a-z]+)/([a-z][a-z0-9_]{0,63})@(0|[1-9]\d{0,8})\((.*)\)(#[0-9a-z+-]{1,200})?", re.DOTALL)
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NESTED = 50  # parentheses of a text: each is read by another call
_RECORD = re.compile(r"record@(\d{1,9})/metric/([a-z][a-z0-9_]*)@\d{1,9}\(.*\)", re.DOTALL)


def hash_spec(text: str) -> str:
    """The key of a value: the sha256 of its spec, 16 digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Spec:
    """What a value is made from. `str` gives the text that is hashed."""

    made: str
    versions: dict[str, int]
    choices: dict[str, str]

    def __str__(self) -> str:
        return json.dumps([self.made, self.versions, self.choices])

    @property
    def key(self) -> str:
        return hash_spec(str(self))

    @classmethod
    def parse(cls, text: str) -> Spec:
        """A spec from its text. Raises ValueError where the text is not as `str` writes it."""
        parts = parse_json(text)
        if not isinstance(parts, list) or [type(part) for part in parts] != [str, dict, dict]:
            raise ValueError("a spec is a list of a text and two tables")
        spec = cls(*parts)
        if str(spec) != text:
            raise ValueError("a spec is written in one way only")
        return spec

    def identities(self) -> Iterator[tuple[str, str, int]]:
        """Kind, name and version of every component that the spec names, nested ones included."""
        for text in (self.made, *map(str, self.choices.values())):
            for kind, name, version in _IDENTITY.findall(text):
                yield kind, name, int(version)

    def differences(self, other: Spec) -> list[str]:
        """What differs in another spec of the same value, in words."""
        old, new = (
            {"": s.made, **{f"{n} version": str(v) for n, v in s.versions.items()}, **s.choices} for s in (self, other)
        )
        return [
            f"{name} {old.get(name, 'nothing')} is now {new.get(name, 'nothing')}".strip()
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        ]


def describe_record(version: int, metric: str) -> str:
    """The first part of a record's spec, from the version of the aggregation and the identity of the metric."""
    return f"record@{version}/{metric}"


def parse_record(made: str) -> tuple[int, str] | None:
    """Version and name of the metric in the first part of a record's spec; None where it is of another form."""
    match = _RECORD.fullmatch(made)
    return (int(match[1]), match[2]) if match else None


def split(text: str, mark: str = ",") -> list[str]:
    """Split a text at marks outside quotes and parentheses."""
    parts, depth, quoted, start, skip = [], 0, False, 0, False
    for i, sign in enumerate(text):
        if skip:
            skip = False
        elif quoted:
            skip, quoted = sign == "\\", sign != '"'
        elif sign == '"':
            quoted = True
        elif sign in "()":
            depth += 1 if sign == "(" else -1
            if depth < 0:
                break
            if depth > DEEPEST:
                raise BadValue(f"{clean(text)!r} has parentheses more than {DEEPEST} deep; write fewer")
        elif sign == mark and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    if depth or quoted:
        raise BadValue(f"{text!r}: a {'quote' if quoted else 'parenthesis'} is not closed or not opened")
    return [*parts, text[start:]]


def needs_quotes(value: str) -> bool:
    """Whether a parameter's value stands in quotes."""
    return not value or re.search(r'[,()="\\\s]', value) is not None


@dataclass(frozen=True)
class Identity:
    """The parts of an identity, KIND/NAME@VERSION(PARAMETER=VALUE,...), with all parameters as they are written."""

    kind: str
    name: str
    version: int
    parameters: dict[str, str]


def is_identity(text: str) -> bool:
    return _WHOLE.fullmatch(text) is not None


def read_identity(text: str) -> Identity:
    """The parts of an identity. Raises BadValue where it is of another form."""
    match = _WHOLE.fullmatch(text)
    if match is None:
        raise BadValue(f"{text!r} is not of the form KIND/NAME@VERSION(PARAMETER=VALUE,...)")
    return Identity(match[1], match[2], int(match[3]), _read_parameters(match[4]))


def write_text(identity: str) -> str:
    """The text of the component of an identity, with all its parameters. Raises BadValue as `read_identity`."""
    whole = read_identity(identity)
    given = ",".join(f"{name}={_write_value(value)}" for name, value in whole.parameters.items())
    return f"{whole.name}:{given}" if given else whole.name


def _write_value(value: str) -> str:
    if not (value.startswith("(") and value.endswith(")")) or value == "()":
        return value
    inner = value[1:-1]
    return f"({write_text(inner) if is_identity(inner) else ','.join(map(_write_value, split(inner)))})"


def read_canonical(text: str) -> tuple[str, dict[str, str]]:
    """Name and parameters of a component's text, NAME[:PARAMETER=VALUE,...], with values as they are written.

    Raises BadValue where the text has spaces, presets, empty parts or values that the suite writes in another way.
    """
    name, colon, rest = text.partition(":")
    if not NAME.fullmatch(name) or (colon and not rest):
        raise BadValue(f"{text!r} is not of the form NAME or NAME:PARAMETER=VALUE,...")
    return name, _read_parameters(rest)


def _read_parameters(text: str) -> dict[str, str]:
    if text.count("(") > NESTED:
        raise BadValue(f"{text[:40]!r} has more than {NESTED} parentheses")
    parameters: dict[str, str] = {}
    for item in split(text) if text else []:
        name, equals, value = item.partition("=")
        if not equals or not _PARAMETER.fullmatch(name) or name in parameters:
            raise BadValue(f"{item!r} is not of the form PARAMETER=VALUE, each parameter once")
        if not _is_canonical(value):
            raise BadValue(f"{item!r} is not written as the suite writes it")
        parameters[name] = value
    return parameters


def _is_canonical(value: str) -> bool:
    """Whether the suite writes a parameter's value in this way."""
    if value.startswith('"'):
        try:
            text = json.loads(value)
        except ValueError:
            return False
        return isinstance(text, str) and needs_quotes(text) and json.dumps(text, ensure_ascii=False) == value
    if value.startswith("(") and value.endswith(")"):
        return value == "()" or _is_canonical_inside(value[1:-1])
    if needs_quotes(value) or re.fullmatch(r"[-+./\dEe]{100,}", value):  # absurdly long numbers
        return False
    if re.fullmatch(r"[+-]?\d+/\d+", value):
        return not re.search(r"/0+$", value) and str(Fraction(value)) == value
    if re.fullmatch(r"[+-]?\d+", value):
        return re.fullmatch(r"0|-?[1-9]\d*", value) is not None
    if re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=e))(e[+-]?\d+)?", value, re.IGNORECASE):
        return repr(float(value)) == value
    return True


def _is_canonical_inside(text: str) -> bool:
    """The same of what stands in parentheses: a component, its identity, or values."""
    readers: list[Callable[[str], object]] = [read_identity] if is_identity(text) else [read_canonical, _read_values]
    for read in readers:
        with contextlib.suppress(BadValue):
            read(text)
            return True
    return False


def _read_values(text: str) -> list[str]:
    values = split(text)
    if not all(map(_is_canonical, values)):
        raise BadValue(f"{text!r} is not written as the suite writes it")
    return values
