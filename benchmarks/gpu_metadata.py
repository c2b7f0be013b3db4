"""Writes a distribution's metadata, by which its plugins are found in a tree of source that is not installed.

python benchmarks/gpu_metadata.py FOLDER    # then put FOLDER on PYTHONPATH, beside the tree and its plugins/
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def write_metadata(folder: Path) -> None:
    """Write NAME-VERSION.dist-info with the name, the version and the entry points of the project file."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    name, version = project["name"], project["version"]
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir(parents=True, exist_ok=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items())
        for group, points in project["entry-points"].items()
    ]
    (place / "entry_points.txt").write_text("\n".join(groups))


if __name__ == "__main__":
    write_metadata(Path(sys.argv[1]))
