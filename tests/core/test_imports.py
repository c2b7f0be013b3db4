"""Who imports whom, and what the harness may not know."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = sorted((ROOT / "bench").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))


def imported(path):
    """(module, whether it runs when the file is imported) for every import that is not for type checkers alone."""
    tree = ast.parse(path.read_text())
    inner = {n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    checking = {
        n for i in ast.walk(tree) if isinstance(i, ast.If) and "TYPE_CHECKING" in ast.dump(i.test) for n in ast.walk(i)
    }
    for node in ast.walk(tree):
        if node in checking or not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = [a.name for a in node.names]
        modules = (
            names
            if isinstance(node, ast.Import)
            else [f"{node.module}.{n}" if node.module == "bench" else node.module for n in names]
        )
        for module in modules:
            yield module, node not in inner


@pytest.mark.parametrize("path", PLUGINS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_plugin_imports_public_names_and_no_other_plugin_package(path):
    for module, _ in imported(path):
        if module.startswith("bench_"):
            assert module.split(".")[0] == path.parent.name, f"{path} imports {module}"
        if module.startswith("bench."):
            assert module.split(".")[1] in (
                *(
                    "activations",
                    "bcos",
                    "checkpoints",
                    "copies",
                    "errors",
                    "files",
                    "gradients",
                    "images",
                    "layers",
                    "maps",
                ),
                *("networks", "noise", "papers", "trigger", "zoo"),
            ), f"{path} imports {module}"


def test_no_components_name_stands_in_the_harness(catalog):
    # These are also a norm, a network's parameters, a place for files and an index, which the harness does know.
    names = {name for kind in catalog.components for name in catalog.of(kind)} - {"l2", "weights", "folder", "zoo"}
    for path in CORE:
        tree = ast.parse(path.read_text())
        docs = {
            id(n.body[0].value)
            for n in ast.walk(tree)
            if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef) and n.body and isinstance(n.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                assert node.value not in names, f"{path.name}:{node.lineno} names {node.value}"


def test_plugins_is_no_package():
    assert not (ROOT / "plugins" / "__init__.py").exists()


def test_help_needs_no_torch():
    code = (
        "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules)); "
        "from bench.cli.commands import main; main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False") and "Usage" in done.stdout


def test_importing_bench_needs_no_torch():
    code = "import sys, bench; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )


LOADING = """
import sys

class Absent:
    tried = []
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("datasets", "ray", "captum", "quantus", "zennit", "sklearn"):
            self.tried.append(name)
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from bench.engine import load
heavy = {"scipy", "skimage", "torchvision", "timm", "pandas", "pyarrow", "matplotlib"}
print([plugin.problem for plugin in load().plugins if plugin.problem], Absent.tried, heavy & set(sys.modules))
"""


def test_plugins_load_without_libraries_that_take_long_and_ask_for_none_that_only_extras_bring():
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[] [] set()\n", "")


def test_every_hook_and_its_arguments_are_in_the_docs():
    text = (ROOT / "docs" / "reference" / "plugins.md").read_text()
    for node in ast.parse((ROOT / "bench" / "engine" / "hooks.py").read_text()).body:
        if isinstance(node, ast.FunctionDef):
            arguments = ", ".join(a.arg for a in node.args.args)
            assert f"{node.name}({arguments})" in text


def test_every_dependency_has_a_line_in_the_docs():
    text = (ROOT / "docs" / "contributing" / "dependencies.md").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    for name in re.findall(r'^  "([a-z-]+)>=', project, re.MULTILINE):
        assert re.search(rf"^\| .*\b{name}\b.*\|.+\|$", text, re.MULTILINE), name
