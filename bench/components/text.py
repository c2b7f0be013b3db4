"""The text form of components, read: `NAME[:preset][:parameter=value,...]`.

Nested values stand in parentheses. A value that is empty or holds white space or one of ,()="\\ stands in quotes.
`write` in base.py is the inverse.
"""

from __future__ import annotations

import json
import os
import re
import typing
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from bench.components.base import Component, Parameter, optional, parameters
from bench.errors import BadValue, UnknownName, suggestion
from bench.keys import split


def read(text: str, kind: str, find: Callable[[str, str], type[Component]]) -> Component:
    """Make a component from its text form; `find(kind, name)` returns its class."""
    name, colon, rest = text.strip().partition(":")
    cls = find(kind, name)
    declared = parameters(cls)
    items = split(rest) if rest else []
    if colon and not items:
        raise BadValue(f"{text!r} ends after the colon; write {name} or {name}:parameter=value")
    preset: list[str] = []
    if items and "=" not in items[0] and items[0] in cls.presets:
        preset, items = split(cls.presets[items[0]]), items[1:]
    given: dict[str, Any] = {}
    named: set[str] = set()
    for place, item in enumerate([*preset, *items]):
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals:
            presets = f" or a preset ({', '.join(sorted(cls.presets))})" if cls.presets else ""
            raise BadValue(f"{text!r}: {item!r} is not of the form parameter=value{presets}")
        if key not in declared:
            raise UnknownName(f"{kind} {name} has no parameter {key!r}{suggestion(key, declared)}")
        if key in named:
            raise BadValue(f"{text!r} gives {key} twice")
        if place >= len(preset):
            named.add(key)
        given[key] = _value(declared[key], value.strip(), f"{kind} {name}", find)
    missing = [p.name for p in declared.values() if p.required and p.name not in given]
    if missing:
        raise BadValue(f"{kind} {name} needs {', '.join(missing)}: write {name}:{missing[0]}=...")
    return cls(**given)


def _value(parameter: Parameter, text: str, owner: str, find: Callable[[str, str], type[Component]]) -> Any:
    kind = parameter.type
    try:
        return _from_text(kind, text, find)
    except (ValueError, ZeroDivisionError, AttributeError):
        raise BadValue(f"{owner}: {parameter.name} is {text!r}, must be {parameter.accepts}") from None


def _from_text(kind: Any, text: str, find: Callable[[str, str], type[Component]]) -> Any:
    if optional(kind):
        return None if text == "none" else _from_text(optional(kind), text, find)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        body = _inside(text)
        return tuple(_from_text(inner[0], part.strip(), find) for part in split(body)) if body else ()
    if isinstance(kind, type) and issubclass(kind, Component):
        return read(_inside(text), kind.kind, find)
    if text.startswith('"'):
        text = json.loads(text)
    if kind is str:
        text.encode()  # half a character is no text
    if kind is Path and (not os.fsencode(text) or "\0" in text):
        raise ValueError("no path")
    if origin is Literal:
        return next((choice for choice in inner if str(choice) == text), text)
    if kind in (int, float, Fraction) and (len(text) > 100 or re.search(r"e[+-]?\d{4}", text, re.IGNORECASE)):
        raise ValueError("an absurdly long number")
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    return kind(text)


def _inside(text: str) -> str:
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text
