"""The installed components by kind and name, from entry points. Every problem is reported."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from bench.components import KINDS, Component, Metric, check_parameters, read
from bench.engine import hooks
from bench.engine.evidence import VOCABULARY
from bench.engine.library import Library
from bench.engine.shared import unchanged
from bench.errors import BadValue, BenchError, PluginError, UnknownName, quote_error, suggestion, summarise_error
from bench.keys import NAME

DISTRIBUTION = "robust-explanation-bench"


class _Clash(PluginError):
    """Two plugins provide one name; the user can leave out either."""


@dataclass(frozen=True)
class Plugin:
    """An entry point: its name, its distribution and, where it cannot be used, its problem."""

    name: str
    distribution: str
    version: str
    problem: str = ""

    @property
    def about(self) -> str:
        return f"plugin {self.name!r} of {self.distribution}"


@dataclass
class Catalog:
    """Components by kind and name, and the source of each. `load` makes it."""

    hooks: pluggy.PluginManager
    plugins: list[Plugin] = field(default_factory=list)
    components: dict[str, dict[str, type[Component]]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    sources: dict[type[Component], Plugin] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    @functools.cached_property
    def library(self) -> Library:
        """What components must not change, as it is when the catalog has been loaded."""
        return Library(sys.modules[cls.__module__] for cls in self.sources)

    @property
    def broken(self) -> list[Plugin]:
        return [plugin for plugin in self.plugins if plugin.problem]

    def list_plugins(self) -> tuple[str, ...]:
        """The distributions of all plugins, with their versions."""
        return tuple(sorted({f"{plugin.distribution} {plugin.version}" for plugin in self.plugins}))

    def of(self, kind: str) -> dict[str, type[Component]]:
        """The classes of a kind by name, sorted."""
        if kind not in self.components:
            raise UnknownName(f"no kind called {kind!r}{suggestion(kind, self.components)}")
        return dict(sorted(self.components[kind].items()))

    def find(self, kind: str, name: str) -> type[Component]:
        """The class of a component. Raises UnknownName, with a suggestion, where none has the name."""
        known = self.of(kind)
        if name not in known:
            other = next((other for other, theirs in self.components.items() if name in theirs), None)
            texts = [text for cls in known.values() if (text := cls.suggest(name))]
            hint = (
                f"; {name} is a component of kind {other}"
                if other
                else f"; write {' or '.join(texts)}"
                if texts
                else suggestion(name, known)
            )
            if self.broken:
                hint += f" ({', '.join(sorted({p.distribution for p in self.broken}))} cannot be used, see bench list)"
            raise UnknownName(f"no {kind} called {name!r}{hint}")
        return known[name]

    def read(self, kind: str, text: str) -> Component:
        """Make a component from its text form, such as "topk:k=20"."""
        if not isinstance(text, str):
            raise BadValue(f"{kind} {text!r}: give a text such as NAME or NAME:parameter=value, or a component")
        return read(text, kind, self.find)

    def require_whole(self) -> None:
        """Raise PluginError where a plugin is broken, because its components would be missing silently."""
        for plugin in self.broken:
            raise PluginError(plugin.problem)


def load(without: Collection[str] = (), absent: bool = False) -> Catalog:
    """Load all plugins of the entry-point group `bench`, in order of distribution and name.

    `without` names distributions or entry points to leave out; `absent`: whether they may be missing, as on another
    machine. A plugin that cannot be used is listed with its problem.
    """
    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    catalog = Catalog(manager, without=tuple(without))
    # The suite's own come first, so that what others replace in them as they are imported is found.
    found = sorted(
        _list_points(),
        key=lambda each: (each[1].distribution != DISTRIBUTION, each[1].distribution.lower(), each[1].name),
    )
    names = {name for _, plugin in found for name in (plugin.distribution, plugin.name)}
    for name in without:
        if name not in names and not absent:
            raise UnknownName(f"--without {name}: no such plugin{suggestion(name, names)}")
    guarded: Library | None = None  # from plugins of others; the suite's own are trusted, which saves a look at it all
    for point, plugin in found:
        if plugin.name not in without and plugin.distribution not in without:
            if plugin.distribution != DISTRIBUTION and guarded is None:
                guarded = Library()
            try:
                with unchanged(plugin.about, guarded):
                    classes = _components(manager, point, plugin)
                for cls in classes:
                    _add(catalog, cls, plugin)
            except _Clash as problem:
                plugin = dataclasses.replace(plugin, problem=str(problem))
            except BenchError as problem:
                remedy = f"fix it, or continue with --without {plugin.distribution}"
                plugin = dataclasses.replace(plugin, problem=f"{problem}; {remedy}")
                guarded = guarded and Library()  # what this plugin replaced is not the fault of the next one
            catalog.plugins.append(plugin)
    _ = catalog.library  # before anything runs
    return catalog


def _list_points() -> list[tuple[EntryPoint, Plugin]]:
    """The entry points of all plugins. A distribution is looked at once: it parses its metadata every time."""
    sources: dict[Any, tuple[str, str]] = {}
    found = []
    for point in entry_points(group=hooks.PROJECT):
        if point.dist and point.dist not in sources:
            sources[point.dist] = point.dist.name, point.dist.version
        found.append((point, Plugin(point.name, *sources.get(point.dist, (point.value, "")))))
    return found


def _components(manager: pluggy.PluginManager, point: EntryPoint, plugin: Plugin) -> list[type[Component]]:
    """Import and register one plugin, and return the classes that it yields."""
    about = plugin.about
    try:
        module = point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may do anything when imported, sys.exit included
        top = point.value.partition(":")[0].partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name == top:
            raise PluginError(f"{about}: its entry point names {point.value}, but no such module exists") from None
        raise PluginError(f"{about} does not import ({summarise_error(error, top)})") from error
    meant = sorted(n for n in vars(module) if getattr(vars(module)[n], f"{hooks.PROJECT}_impl", None))
    known = {n for n in vars(hooks) if n.startswith("bench_")}
    for name in meant:
        if name not in known:
            raise PluginError(f"{about} implements a hook {name!r} that does not exist{suggestion(name, known)}")
    if not meant:
        raise PluginError(f"{about} implements no hook; is @bench.hookimpl missing above bench_components?")
    try:
        manager.register(module, name=f"{plugin.distribution}/{plugin.name}")
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{about}: {quote_error(error, 300)}") from None
    except ValueError:
        raise PluginError(f"{about}: its module {module.__name__} is registered by another entry point too") from None
    if "bench_components" not in meant:
        return []
    try:
        return list(module.bench_components())
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(f"{about}: bench_components failed ({summarise_error(error)})") from error


def _add(catalog: Catalog, cls: type[Component], plugin: Plugin) -> None:
    about = plugin.about
    # Not by issubclass, which asks an abstract class's subclasses, one after the other.
    if not isinstance(cls, type) or set(cls.__mro__).isdisjoint(KINDS.values()):
        raise PluginError(f"{about}: {cls!r} is not a class of a kind ({', '.join(KINDS)})")
    parameters = vars(cls).get("__dataclass_params__")
    if not parameters or not parameters.frozen:
        raise PluginError(f"{about}: {cls.__qualname__} is not decorated with @dataclass(frozen=True)")
    if not NAME.fullmatch(cls.__dict__.get("name", "")):
        raise PluginError(
            f"{about}: {cls.__qualname__} needs a name of lower-case letters, digits and _, a letter first, not "
            f"{cls.__dict__.get('name', '')!r}"
        )
    if issubclass(cls, Metric) and isinstance(cls.better, str) and cls.better not in ("higher", "lower"):
        raise PluginError(f"{about}: metric {cls.name}: better is {cls.better!r}, must be 'higher' or 'lower'")
    if inspect.isabstract(cls):
        lacking = sorted(n for n in dir(cls) if getattr(getattr(cls, n), "__isabstractmethod__", False))
        raise PluginError(f"{about}: {cls.kind} {cls.name} lacks {', '.join(lacking)}")
    other = catalog.components[cls.kind].get(cls.name)
    if other:
        first = catalog.sources[other].distribution
        raise _Clash(
            f"{cls.kind} {cls.name} comes from both {first} and {plugin.distribution}; "
            f"continue with --without {first} or --without {plugin.distribution}"
        )
    check_parameters(cls)
    if cls.kind == "metric":
        VOCABULARY.check(f"{about}: metric {cls.name}", cls.__call__)
    catalog.components[cls.kind][cls.name] = cls
    catalog.sources[cls] = plugin


def installed() -> Catalog:
    """The catalog of this process, loaded once. Raises PluginError where a plugin is broken."""
    global _installed
    if _installed is None:
        catalog = load()
        catalog.require_whole()
        _installed = catalog
    return _installed


_installed: Catalog | None = None
