"""Specs: the texts that say what a value is made from, and the keys that they hash to.

A spec is JSON of three parts: what is made, the versions of the values along its path, and the identity of the choice
along each axis that it reaches. The store names folders by keys; records publish their specs, so that keys can be
checked where no plugin is installed. Needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from bench.files import parse_json

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")  # of a component
_IDENTITY = re.compile(r"(\w+)/(\w+)@(\d+)\(")
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


def parse_identity(text: str, kind: str) -> str | None:
    """The name in the identity of a component, "dataset/cifar10@1(...)#CHECKSUM"; None where it is of another form."""
    match = re.fullmatch(rf"{kind}/([^@]*)@\d{{1,9}}\(.*\)(#[0-9a-f]{{1,64}})?", text, re.DOTALL)
    return match[1] if match and NAME.fullmatch(match[1]) else None
