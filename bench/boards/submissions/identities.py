"""Compares the texts of components with their identities, without the components. Needs neither torch nor plugins."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.errors import BadValue
from bench.keys import Identity, is_identity, read_canonical, read_identity, split


class Part(NamedTuple):
    """A component, whole or nested in another one: the parameters that its text gives, and its identity."""

    given: dict[str, str]
    identity: Identity


def list_parts(kind: str, text: str, identity: str) -> list[Part]:
    """The component of a text, then those nested in the text.

    Raises BadValue where the text is not in canonical form, or says something else than the identity.
    """
    name, given = read_canonical(text)
    whole = read_identity(identity)
    if (whole.kind, whole.name) != (kind, name):
        raise BadValue(f"{text!r} names another component")
    if [parameter for parameter in whole.parameters if parameter in given] != list(given):
        raise BadValue(f"{text!r} gives unknown parameters, or known ones in another order")
    nested = [part for name, value in given.items() for part in _list_nested(value, whole.parameters[name])]
    return [Part(given, whole), *nested]


def _list_nested(given: str, stated: str) -> list[Part]:
    if given.startswith("(") and stated.startswith("("):
        inner, there = given[1:-1], stated[1:-1]
        if is_identity(there):
            return list_parts(read_identity(there).kind, inner, there)
        values = split(inner), split(there)
        if len(values[0]) == len(values[1]):
            return [part for pair in zip(*values, strict=True) for part in _list_nested(*pair)]
    elif given == stated or _is_file(given, stated):
        return []
    raise BadValue(f"{given!r} is not {stated!r}")


def _is_file(given: str, stated: str) -> bool:
    """Whether a text is NAME#CHECKSUM of an identity's #CHECKSUM."""
    name = json.loads(given) if given.startswith('"') else given
    return re.fullmatch(r"#[0-9a-f]{1,64}", stated) is not None and name.partition("#")[1:] == ("#", stated[1:])


@dataclass
class Components:
    """What the suite's texts and identities tell of components, by kind and name: version and parameters, and the
    defaults of those that a text leaves out."""

    forms: dict[tuple[str, str], tuple[int, list[str]]] = field(default_factory=dict)
    defaults: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    def learn(self, kind: str, text: str, identity: str) -> None:
        for given, part in list_parts(kind, text, identity):
            about = part.kind, part.name
            self.forms.setdefault(about, (part.version, list(part.parameters)))
            left_out = {name: value for name, value in part.parameters.items() if name not in given}
            self.defaults[about] = {**left_out, **self.defaults.get(about, {})}

    def find_problem(self, kind: str, text: str, identity: str) -> str:
        """What is wrong with the version, the parameters or the defaults of a component that the suite has, or ""."""
        for given, part in list_parts(kind, text, identity):
            about = part.kind, part.name
            version, names = self.forms.get(about, (part.version, list(part.parameters)))
            defaults = self.defaults.get(about, {})
            # A parameter that a component got later stands in its identity only where its text gives it.
            found = [name for name in part.parameters if name in names or name not in given]
            due = [name for name in names if name in part.parameters or name in defaults]
            if (part.version, found) != (version, due):
                return f"the suite has {part.name}@{version}({', '.join(names)})"
            for name, value in part.parameters.items():
                if name in defaults and (name in given) == (value == defaults[name]):
                    return f"{part.name} without {name} has {name}={defaults[name]}"
        return ""

    def find_default(self, kind: str, text: str) -> str:
        """A parameter that a text of the board gives, though the suite has the same without it, or ""."""
        name, given = read_canonical(text)
        defaults = self.defaults.get((kind, name), {})
        return next((f"{key}={value}" for key, value in given.items() if defaults.get(key) == value), "")
