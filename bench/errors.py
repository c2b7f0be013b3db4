"""All errors that a user can cause. The command line prints them in one line, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from traceback import walk_tb
from typing import Any


class BenchError(Exception):
    """Base of all errors. Its text names the thing, the value and the way out; commands exit with `exit_code`."""

    exit_code = 2


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

    def __init__(self, text: str, records: Iterable[Any] = ()) -> None:
        super().__init__(text)
        self.records = list(records)


class Diverged(CellFailed):
    """A training loss or a weight is not finite."""


class BadComponent(CellFailed):
    """A component returned something that its kind does not allow."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known names, or all where none is near."""
    known = sorted(set(known))
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.55)
    if near:
        return "; did you mean " + " or ".join(repr(n) for n in near) + "?"
    return "; known: " + (", ".join(known) or "none")


def summarise_error(error: BaseException, package: str = "") -> str:
    """An unforeseen error in one line: type, text, file and line.

    The line is the last one in `package` on the way to the error, or else the one that raised it.
    """
    places = [(frame.f_globals.get("__name__", ""), frame, line) for frame, line in walk_tb(error.__traceback__)]
    own = [place for place in places if place[0].split(".")[0] == package]
    where = "".join(
        f", {frame.f_code.co_filename.rsplit('/', 1)[-1]}:{line}" for _, frame, line in (own or places)[-1:]
    )
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' + text if text else ''}{where}"
