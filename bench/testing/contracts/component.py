"""What components of all kinds promise."""

from __future__ import annotations

from bench.components import Component, Metric, parameters
from bench.engine import Catalog
from bench.papers import Paper
from bench.testing.contracts.shared import ensure


def reads_back_from_its_text(component: Component, catalog: Catalog) -> None:
    read = catalog.read(component.kind, str(component))
    ensure(read == component, f"its text form {component} reads back as {read}")
    ensure(read.identity == component.identity, "its identity changes when its text form is read back")


def describes_itself(component: Component, catalog: Catalog) -> None:
    doc = component.__class__.__dict__.get("__doc__") or ""
    ensure(doc.strip() and not doc.startswith(f"{type(component).__name__}("), "it has no docstring")
    version, paper = component.version, component.paper
    ensure(type(version) is int and version > 0, f"version is {version!r}; use a whole number of at least 1")
    ensure(paper is None or isinstance(paper, Paper), f"paper is {paper!r}; use a bench.Paper, or leave it out")
    for parameter in parameters(type(component)).values():
        ensure(parameter.help, f"parameter {parameter.name} has no help; declare it with bench.param(default, help)")
    if isinstance(component, Metric):
        ensure(component.help, "it has no help; say in one line what the metric's column means")
        ensure(component.better in ("higher", "lower"), f"better is {component.better!r}; use 'higher' or 'lower'")
