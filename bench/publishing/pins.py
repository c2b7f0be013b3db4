"""Compares the data at hand with those that a board is measured on."""

from __future__ import annotations

from collections.abc import Iterable

from bench.boards import Protocol
from bench.components import Dataset
from bench.engine import Catalog
from bench.errors import EnvironmentProblem


def check_data(protocol: Protocol, catalog: Catalog, datasets: Iterable[Dataset]) -> None:
    """Raise EnvironmentProblem where a data set that the board names is missing, or is another one here."""
    wanted = {catalog.read("dataset", pin.dataset): pin for pin in protocol.data}
    for dataset in datasets:
        if dataset not in wanted:
            continue
        pin = wanted[dataset]
        try:
            found = dataset.identity.partition("#")[2]
        except EnvironmentProblem as error:
            raise EnvironmentProblem(f"{error}; the board wants {pin.source}") from None
        if found != pin.fingerprint:
            raise EnvironmentProblem(
                f"dataset {pin.dataset}: the images here are #{found}, but the board wants #{pin.fingerprint}; take "
                f"{pin.source}"
            )
