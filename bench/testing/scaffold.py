"""Starts a plugin: writes a distribution with one working component, from the templates of its kind."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib import resources
from pathlib import Path
from string import Template

from bench.engine import Catalog
from bench.errors import BadValue, EnvironmentProblem
from bench.keys import NAME

# File of the scaffold -> template, both with placeholders.
FILES = {
    "pyproject.toml": "pyproject.toml.template",
    "README.md": "README.md.template",
    "${module}.py": "${kind}.py.template",
    "tests/test_${name}.py": "test.py.template",
}


def scaffold(catalog: Catalog, kind: str, name: str, into: Path) -> list[Path]:
    """Write the distribution `bench-NAME` into a folder, and return its files.

    Raises BadValue where the name is malformed or taken, and EnvironmentProblem where the folder cannot be written.
    """
    _check_name(catalog, kind, name)
    # The module's name has a prefix, since a component may well be called like a module of Python or of a library.
    module = f"bench_{name}"
    if importlib.util.find_spec(module):
        raise BadValue(f"a module called {module} is already installed; choose another name")
    folder = into / f"bench-{name}"
    values = {"kind": kind, "name": name, "module": module, "class_name": class_name(kind, name), "folder": folder.name}
    templates = resources.files("bench.testing") / "templates"
    contents = {
        folder / _fill(file, values): _fill((templates / _fill(template, values)).read_text(), values)
        for file, template in FILES.items()
    }
    if folder.exists():
        raise BadValue(f"{folder} already exists; choose another name, or another folder with --into")
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder} cannot be written ({error.strerror}); choose another folder with --into"
        ) from None
    return list(contents)


def _check_name(catalog: Catalog, kind: str, name: str) -> None:
    known = catalog.of(kind)
    if not NAME.fullmatch(name) or name.endswith("_"):  # the name of a distribution cannot end in an underscore
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789")[:64]
        raise BadValue(
            f"{name!r} is not a valid name: use lower-case letters, digits and _, starting with a letter, such as "
            f"{plain or f'my_{kind}'}"
        )
    if name in known:
        owner = catalog.sources[known[name]].distribution
        raise BadValue(f"{kind} {name} is already installed, by {owner}; choose another name")


def class_name(kind: str, name: str) -> str:
    """The class of a component called `name`: `l1_distance` -> `L1Distance`."""
    joined = "".join(part.capitalize() for part in name.split("_"))
    return joined + kind.capitalize() if keyword.iskeyword(joined) else joined


def _fill(text: str, values: dict[str, str]) -> str:
    return Template(text).substitute(values)
