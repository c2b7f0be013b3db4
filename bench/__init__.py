"""The names that a plugin's author may import. Each loads on first use, so that `import bench` is quick."""

from __future__ import annotations

import importlib
import typing
import warnings
from typing import Any

if typing.TYPE_CHECKING:
    from bench import (
        activations as activations,
        copies as copies,
        gradients as gradients,
        images as images,
        layers as layers,
        maps as maps,
        networks as networks,
        noise as noise,
        papers as papers,
        testing as testing,
    )
    from bench.api.evaluation import evaluate as evaluate
    from bench.api.explanation import Explanation as Explanation, data as data, explain as explain
    from bench.api.results import Results as Results
    from bench.api.running import run as run
    from bench.boards.record import Record as Record
    from bench.components.ball import Ball as Ball
    from bench.components.base import Component as Component, param as param
    from bench.components.case import Case as Case
    from bench.components.data import Data as Data
    from bench.components.dataset import Dataset as Dataset
    from bench.components.files import checksum as checksum, data_dir as data_dir
    from bench.components.kinds import (
        Attack as Attack,
        Defense as Defense,
        Explainer as Explainer,
        Levels as Levels,
        Metric as Metric,
        Model as Model,
        Schedule as Schedule,
        Undefined as Undefined,
    )
    from bench.components.victim import Victim as Victim
    from bench.engine.chunks import chunked as chunked
    from bench.engine.hooks import components_of as components_of, hookimpl as hookimpl
    from bench.engine.pretrained import load_model as load_model
    from bench.engine.runner import component as component
    from bench.engine.training import Batch as Batch, Fit as Fit
    from bench.errors import (
        BadComponent as BadComponent,
        BadValue as BadValue,
        BenchError as BenchError,
        CellFailed as CellFailed,
        Diverged as Diverged,
        EnvironmentProblem as EnvironmentProblem,
        PluginError as PluginError,
        StoreError as StoreError,
        UnknownName as UnknownName,
        suggestion as suggestion,
    )
    from bench.networks import (
        Normalised as Normalised,
        check_eager as check_eager,
        check_logits as check_logits,
        normalisation as normalisation,
    )
    from bench.papers import Paper as Paper

_HOMES = {
    "api": ("Explanation", "Results", "data", "evaluate", "explain", "run"),
    "boards.record": ("Record",),
    "components.ball": ("Ball",),
    "components.base": ("Component", "param"),
    "components.case": ("Case",),
    "components.data": ("Data",),
    "components.files": ("checksum", "data_dir"),
    "components.kinds": (
        *("Attack", "Dataset", "Defense", "Explainer", "Metric", "Model", "Schedule"),
        *("Levels", "Undefined"),
    ),
    "components.victim": ("Victim",),
    "engine.chunks": ("chunked",),
    "engine.hooks": ("components_of", "hookimpl"),
    "engine.pretrained": ("load_model",),
    "engine.runner": ("component",),
    "engine.training": ("Batch", "Fit"),
    "errors": (
        *("BadComponent", "BadValue", "BenchError", "CellFailed", "Diverged", "EnvironmentProblem", "PluginError"),
        *("StoreError", "UnknownName", "suggestion"),
    ),
    "networks": ("Normalised", "check_eager", "check_logits", "normalisation"),
    "papers": ("Paper",),
}
_MODULES = ("activations", "copies", "gradients", "images", "layers", "maps", "networks", "noise", "papers", "testing")
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_RENAMED = {"checked_eager": "check_eager", "pictures": "images"}  # since version 0.1

__all__ = [*_HOME_OF, *_MODULES]  # noqa: PLE0604 (made of the tables above; a test compares it with the imports)


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        warnings.warn(f"bench.{name} is now called bench.{_RENAMED[name]}", DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    if name in _MODULES:
        return importlib.import_module(f"bench.{name}")
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"bench.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
