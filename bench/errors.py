"""Every error that a user can cause; the command line prints them in one line, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from traceback import walk_tb
from typing import Any


class BenchError(Exception):
    """Base of them all: names the thing, the value and the way out. `exit_code` is the command line's."""

    exit_code = 2


class UnknownName(BenchError):
    """A component, kind, parameter or evidence that nobody provides."""


class BadValue(BenchError):
    """A parameter, option or text of the wrong type, form or range."""


class PluginError(BenchError):
    """A plugin that does not import, declares nothing, or clashes with another."""


class EnvironmentProblem(BenchError):
    """Missing data or device, a store that cannot be written."""

    exit_code = 3


class StoreError(EnvironmentProblem):
    """The store cannot be read or written."""


class CellFailed(BenchError):
    """A cell cannot be computed; the others go on. `records` are those that are done, where a run raised it."""

    exit_code = 1

    def __init__(self, text: str, records: Iterable[Any] = ()) -> None:
        super().__init__(text)
        self.records = list(records)


class Diverged(CellFailed):
    """A training loss that is not finite."""


class BadComponent(CellFailed):
    """A component returned something that its kind does not allow."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """The part of a message that leads on from an unknown name: the nearest known ones, else all of them."""
    known = sorted(set(known))
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.55)
    if near:
        return "; did you mean " + " or ".join(repr(n) for n in near) + "?"
    return "; known: " + (", ".join(known) or "none")


def short(error: BaseException, package: str = "") -> str:
    """An unforeseen error in one line: its type, text and place, which is the last line of `package` that led to it, or
    else where it was raised."""
    places = [(frame.f_globals.get("__name__", ""), frame, line) for frame, line in walk_tb(error.__traceback__)]
    own = [place for place in places if place[0].split(".")[0] == package]
    where = "".join(
        f", {frame.f_code.co_filename.rsplit('/', 1)[-1]}:{line}" for _, frame, line in (own or places)[-1:]
    )
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' + text if text else ''}{where}"
