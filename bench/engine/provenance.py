"""Where and with what a record was made. Names no person and no machine."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from bench.components import Component
from bench.engine.catalog import DISTRIBUTION, Catalog
from bench.engine.cells import Cell


def provenance(cell: Cell, catalog: Catalog, device: torch.device) -> dict[str, Any]:
    """Versions, device, commit and the distribution of each component that a cell's metric reaches."""
    used: list[Component] = [*(c for axis, c in cell.case.components.items() if axis in cell.axes), cell.metric]
    sources = {f"{c.kind} {c.name}": catalog.sources[type(c)] for c in used if type(c) in catalog.sources}
    plugins = {name: f"{plugin.distribution} {plugin.version}" for name, plugin in sources.items()}
    return {**_describe_machine(device), "plugins": plugins}


@functools.cache
def _describe_machine(device: torch.device) -> dict[str, Any]:
    return {
        "bench": importlib.metadata.version(DISTRIBUTION),
        "commit": _commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
    }


def _commit() -> str:
    """The commit of the checkout that this code runs from; "" for an installed one."""
    top = Path(__file__).parents[2]
    if not (top / ".git").exists():
        return ""
    try:
        done = subprocess.run(["git", "-C", str(top), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
