"""Runs from Python what `bench run` runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from tqdm import tqdm

from bench.api.results import Results
from bench.components import Attack, Dataset, Defense, Explainer, Metric, Model, Schedule, use_data_dir
from bench.engine import (
    Cell,
    Store,
    choose_device,
    describe_refusals,
    group_reasons,
    installed,
    list_cells,
    open_store,
    place_networks,
    read_stored_values,
    run_cells,
    select,
)
from bench.errors import CellFailed, explain_failure

T = TypeVar("T")
Several: TypeAlias = "T | str | Sequence[T | str]"  # one or several of something, as texts or as they are
Budget = str | float | Fraction


def run(
    *,
    dataset: Several[Dataset] | None = None,
    split: str | Sequence[str] | None = None,
    model: Several[Model] | None = None,
    schedule: Several[Schedule] | None = None,
    defense: Several[Defense] | None = None,
    seed: int | Sequence[int] | None = None,
    explainer: Several[Explainer] | None = None,
    surrogate: Several[Explainer] | None = None,
    attack: Several[Attack] | None = None,
    eps: Budget | Sequence[Budget] | None = None,
    norm: str | Sequence[str] | None = None,
    target: str | Sequence[str] | None = None,
    samples: int | Sequence[int] | None = None,
    metric: Several[Metric] | None = None,
    reference: bool = True,
    store: str | Path | None = None,
    data_dir: str | Path | None = None,
    device: str = "auto",
    **others: Any,
) -> Results:
    """Run from Python what `bench run` runs. Options that are left out come from the suite's quick.toml.

    An option is one value or several, as texts or as components. The reference row joins if `reference`. Raises
    CellFailed where a cell failed, with the `Results` of the others as its `records`.
    """
    given = {
        "dataset": dataset, "split": split, "model": model, "schedule": schedule, "defense": defense, "seed": seed,
        "explainer": explainer, "surrogate": surrogate, "attack": attack, "eps": eps, "norm": norm, "target": target,
        "samples": samples, "metric": metric, **others,
    }  # fmt: skip
    catalog = installed()
    with use_data_dir(data_dir):
        selection = select(catalog, as_lists(given), reference)
        cells = list_cells(catalog, selection.cases, selection.metrics)
        place = open_store(store, tell)
        place_networks(selection.networks, place, catalog)
        for text in describe_refusals(cells):
            tell(text)
        return compute(cells, place, choose_device(device))


def as_lists(given: dict[str, Any]) -> dict[str, list[Any]]:
    """The options that are not None, each as a list."""
    return {
        option: list(value) if isinstance(value, list | tuple) else [value]
        for option, value in given.items()
        if value is not None
    }


def compute(cells: list[Cell], store: Store, device: torch.device) -> Results:
    """Run cells. Raises CellFailed where some failed."""
    outcome = run_cells(cells, installed(), store, device)
    results = Results(outcome, read_stored_values(outcome.records.values(), store))
    if outcome.failures:
        by_key = {cell.key: cell for cell in cells}
        reasons = [(str(by_key[key]), explain_failure(error)) for key, error in outcome.failures.items()]
        raise CellFailed("; ".join(group_reasons(reasons)), results)
    return results


def tell(text: str) -> None:
    """Print what the user should know, above progress bars."""
    tqdm.write(text, file=sys.stderr)
