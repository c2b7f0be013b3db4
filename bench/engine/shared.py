"""Guards what components share: settings, libraries, networks and data. A component that changes them fails by name."""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import nn

from bench.components import Data
from bench.engine.library import Library
from bench.engine.portraits import Portrait, Print
from bench.engine.settings import find_changes, put_settings, read_settings
from bench.errors import BadComponent, EnvironmentProblem, PluginError, summarise_error

T = TypeVar("T")


class Changed(BadComponent):
    """A component changed what others share."""


class Spoiled(EnvironmentProblem):
    """A component changed what cannot be put back, so that nothing may be computed any more in this process."""


@dataclass
class _Call:
    who: str
    changes: list[str] = field(default_factory=list)


class Shared:
    """Guards the calls of components in one run.

    Each call begins with the settings and in the context that the run began with. What others share is compared
    afterwards.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self._listeners: list[Callable[[], None]] = []
        self._settings = read_settings()
        self._context = contextvars.copy_context()
        self._calls: list[_Call] = []
        self._problem: Spoiled | None = None
        self._portraits: dict[str, Portrait] = {}
        self._prints: dict[str, Print] = {}

    def on_change(self, forget: Callable[[], None]) -> None:
        """Have a function called that drops values, which are then computed again or read from the store."""
        self._listeners.append(forget)

    def remember(self, spec: str, value: Any) -> None:
        """Look at a value in memory that components will share."""
        if isinstance(value, nn.Module):
            self._portraits[spec] = Portrait(value)
        elif isinstance(value, Data):
            self._prints[spec] = Print(value)

    def keep(self, specs: set[str]) -> None:
        """Forget all values but these."""
        self._portraits = {spec: portrait for spec, portrait in self._portraits.items() if spec in specs}
        self._prints = {spec: found for spec, found in self._prints.items() if spec in specs}

    def call(self, who: str, function: Callable[[], T], hands_out: bool = False) -> T:
        """What a function returns that runs the code of components.

        `who` they are, in words; `hands_out`: whether they get whole data sets. Raises Changed where they changed what
        others share, which is put back; Spoiled where it cannot be; BadComponent for what ends a process, except
        Ctrl-C.
        """
        if self._problem:
            raise self._problem
        call, outside = _Call(who), read_settings()
        put_settings(self._settings)
        self._calls.append(call)
        failure: Exception | None = None
        try:
            try:
                result = self._context.copy().run(function)
            except Exception as error:
                failure = error
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # as of sys.exit, which must not end the run
                failure = BadComponent(f"{who} ended by {summarise_error(error)}; raise an Exception instead")
            self._compare(call, hands_out)
        finally:
            self._calls.pop()
            if self._calls:
                put_settings(outside)
        if failure:
            raise failure
        return result

    def audit(self) -> None:
        """Look at what is shared in the middle of a call, before it asks for a value that others share as well."""
        if not self._calls:
            return
        changes = [change for portrait in self._portraits.values() for change in portrait.find_tensors()]
        if changes:
            self._calls[-1].changes += changes
            self._forget()

    def _forget(self) -> None:
        self._portraits.clear()
        self._prints.clear()
        for forget in self._listeners:
            forget()

    def _compare(self, call: _Call, hands_out: bool) -> None:
        changes = [*call.changes, *find_changes(self._settings)]
        for portrait in self._portraits.values():
            changes += portrait.find_changes()
        if any(found.has_changed(hands_out) for found in self._prints.values()):
            changes.append("the data that it was given")
        lasting = put_settings(self._settings)  # first, since the default dtype renames a class of torch
        replaced = [*lasting, *self.library.find_changes()]
        if replaced:
            self._problem = Spoiled(
                f"{call.who} changed {_name(replaced)}, which others use and which cannot be put back; finished "
                "results are kept; run again without it"
            )
        if self._problem:
            raise self._problem
        if changes:
            self._forget()
            raise Changed(f"{call.who} changed {_name(changes)}, which others use; it was put back; work on copies")


def _name(changes: Iterable[str]) -> str:
    first, *others = dict.fromkeys(changes)
    return first + (f" and {len(others)} more" if others else "")


@contextlib.contextmanager
def unchanged(about: str, library: Library | None) -> Iterator[None]:
    """Raise PluginError where what happens inside changes settings or a library; settings are put back."""
    before = read_settings()
    try:
        yield
    finally:
        changes = find_changes(before)
        put_settings(before)
        changes += library.find_changes() if library else []
        if changes and not isinstance(sys.exception(), KeyboardInterrupt):
            raise PluginError(f"{about} changed {_name(changes)}, which all components share")
