"""The hooks that a plugin may implement."""

from __future__ import annotations

import importlib
import pkgutil
import typing
from collections.abc import Iterable

import pluggy

from bench.components import Component

if typing.TYPE_CHECKING:
    from bench.boards import Record
    from bench.components import Case

PROJECT = "bench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


def components_of(package: str) -> list[type[Component]]:
    """Import the modules of a package, and return the component classes that they define, sorted by name.

    For plugins of many files: `bench_components` returns `bench.components_of(__name__)`. A class without a `name` of
    its own is a base of others and is left out, as is a module whose name begins with an underscore.
    """
    top = importlib.import_module(package)
    names = [module.name for module in pkgutil.iter_modules(getattr(top, "__path__", []), f"{package}.")]
    modules = [top, *(importlib.import_module(name) for name in names if not name.rpartition(".")[2].startswith("_"))]
    classes = [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Component) and value.__module__ == module.__name__
    ]
    return sorted({cls for cls in classes if "name" in vars(cls)}, key=lambda cls: cls.name)


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
