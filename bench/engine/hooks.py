"""The hooks that a plugin may implement."""

from __future__ import annotations

import typing
from collections.abc import Iterable

import pluggy

if typing.TYPE_CHECKING:
    from bench.boards.record import Record
    from bench.components.base import Component
    from bench.components.case import Case

PROJECT = "bench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def bench_components() -> Iterable[type[Component]]:
    """Return the component classes that this plugin provides. Called once, when the catalog is built."""
    raise NotImplementedError


@hookspec(firstresult=True)
def bench_refuse(case: Case, used: dict[str, Component]) -> str | None:
    """Return why a case cannot be computed, or None. Called before anything is computed.

    `used` holds the components of the axes that the metric reaches, and the metric itself as "metric".
    """


@hookspec
def bench_recorded(record: Record) -> None:
    """Called after a new record is stored: for loggers."""
