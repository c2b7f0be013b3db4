"""The names that a plugin author may import; each is loaded when it is first used, so that `import bench` is quick."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "components.base": ("Component", "Paper", "checksum", "param"),
    "components.files": ("data_dir",),
    "engine.hooks": ("hookimpl",),
    "components.kinds": (
        "Attack",
        "Ball",
        "Data",
        "Dataset",
        "Defense",
        "Explainer",
        "Levels",
        "Metric",
        "Model",
        "Normalised",
        "Schedule",
        "Undefined",
        "Victim",
        "checked_eager",
    ),
    "components.case": ("Case",),
    "gradients": ("normalisation",),
    "engine.training": ("Batch", "Fit"),
    "engine.evidence": ("chunked",),
    "boards.record": ("Record",),
    "engine.runner": ("component", "run"),
    "errors": (
        "BadComponent",
        "BadValue",
        "BenchError",
        "CellFailed",
        "Diverged",
        "EnvironmentProblem",
        "PluginError",
        "StoreError",
        "UnknownName",
        "suggestion",
    ),
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}
_MODULES = ("gradients", "images", "noise", "testing")

__all__ = [*_WHERE, *_MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"bench.{name}")
    if name in _WHERE:
        return getattr(importlib.import_module(f"bench.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
