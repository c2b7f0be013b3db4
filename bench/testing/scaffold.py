"""Starts a plugin: writes a distribution with one working component, from the templates of its kind."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib import resources
from pathlib import Path
from string import Template

from bench.engine.catalog import Catalog
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
    """Write `bench-NAME` into a folder; the files written. Raises one of ours where name or place will not do."""
    known = catalog.of(kind)
    if not NAME.fullmatch(name) or name.endswith("_"):  # no distribution's name may end in one
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789")[:64]
        raise BadValue(
            f"{name!r} is no name: lower-case letters, digits and _, a letter first, such as {plain or f'my_{kind}'}"
        )
    if name in known:
        owner = catalog.sources[known[name]].distribution
        raise BadValue(f"{kind} {name} is installed already, by {owner}; choose another name")
    # Prefixed, since a component may well be called what a module of the language or of a library is.
    module = f"bench_{name}"
    if importlib.util.find_spec(module):
        raise BadValue(f"a module called {module} is installed already; choose another name")
    folder = into / f"bench-{name}"
    given = {"kind": kind, "name": name, "module": module, "class_name": class_name(kind, name), "folder": folder.name}
    templates = resources.files("bench.testing") / "templates"
    contents = {
        folder / filled(file, given): filled((templates / filled(template, given)).read_text(), given)
        for file, template in FILES.items()
    }
    if folder.exists():
        raise BadValue(f"{folder} is there already; choose another name, or another place with --into")
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder} cannot be written ({error.strerror}); choose another place with --into"
        ) from None
    return list(contents)


def class_name(kind: str, name: str) -> str:
    """The class of a component called `name`: `l1_distance` -> `L1Distance`."""
    joined = "".join(part.capitalize() for part in name.split("_"))
    return joined + kind.capitalize() if keyword.iskeyword(joined) else joined


def filled(text: str, given: dict[str, str]) -> str:
    return Template(text).substitute(given)
