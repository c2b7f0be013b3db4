"""The options that commands share, and the cells that they ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.engine.catalog import Catalog
    from bench.engine.runner import Cell, Outcome


def complain(text: str) -> None:
    click.echo(f"bench: {text}", err=True)


WITHOUT = click.option(
    "--without", multiple=True, metavar="NAME", help="Leave out a plugin, by distribution or entry point."
)


def _data_from(context: click.Context, _: click.Parameter, folder: str | None) -> None:
    from bench.components.files import data_from

    context.with_resource(data_from(folder))


DATA_DIR = click.option(
    "--data-dir",
    metavar="FOLDER",
    envvar="BENCH_DATA_DIR",
    callback=_data_from,
    expose_value=False,
    help="Folder that holds data sets, each in a folder of its own.",
)


STORE = click.option(
    "--store",
    metavar="FOLDER",
    envvar="BENCH_STORE",
    help="Where results are kept. [default: ~/.cache/robust-explanation-bench]",
)


DEVICE = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to compute."
)
REFERENCE = click.option(
    "--reference/--no-reference", default=True, help="Whether the reference row joins. [default: it does]"
)


AXIS_OPTIONS = {
    "dataset": ("NAME[:...]", "Images to train and test on."),
    "model": ("NAME[:...]", "Architecture."),
    "schedule": ("NAME[:...]", "How long and how is trained."),
    "defense": ("NAME[:...]", "Way of training; the reference row joins."),
    "explainer": ("NAME[:...]", "What makes the maps."),
    "surrogate": ("NAME[:...]", "Explainer that the attack differentiates. [default: the explainer itself]"),
    "attack": ("NAME[:...]", "What changes the images."),
    "metric": ("NAME[:...]", "What is measured."),
    "eps": ("EPS,...", "Budget in pixel units of [0, 1], as 2/255,4/255."),
    "norm": ("linf|l2", "Norm of the budget."),
    "target": ("predicted|label", "Class explained."),
    "split": ("SPLIT", "test, validation or train."),
    "samples": ("N", "Images measured on, as many of each class."),
    "seed": ("N,...", "Seeds of training and noise."),
}


def _options(
    shared: Sequence[Callable[..., Any]], names: Sequence[str], **other: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options for a command: those that are not of an axis last; `other` has texts of the command's own."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        # What is added last stands first in the help.
        for option in shared:
            command = option(command)
        for name in reversed(names):
            metavar, text = AXIS_OPTIONS[name]
            command = click.option(f"--{name}", multiple=True, metavar=metavar, help=other.get(name, text))(command)
        return command

    return add


asking = _options((WITHOUT, DATA_DIR, STORE, DEVICE, REFERENCE), list(AXIS_OPTIONS))
"""The options that say what is asked, shared by all commands that run, plan or publish."""

EXPLAINING = _options(
    (WITHOUT, DATA_DIR, STORE, DEVICE),
    [name for name in AXIS_OPTIONS if name not in ("metric", "target", "split", "samples")],
    dataset="Images that the network is trained on.",
    defense="Way of training.",
    attack="What changes the picture. [default: nothing]",
)

LISTS = ("eps", "norm", "target", "split", "samples", "seed")


def split_lists(options: dict[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Options, those that take numbers and words split at commas."""
    return {
        option: [part for text in texts for part in text.split(",")] if option in LISTS else texts
        for option, texts in options.items()
    }


BOARD = click.option(
    "--board",
    metavar="FOLDER",
    help="Take what is left out from this board instead of quick.toml: its whole protocol where nothing else is given.",
)


def asked_cells(
    without: Sequence[str], reference: bool, board: str | None, options: dict[str, Sequence[str]]
) -> tuple[Catalog, list[Cell]]:
    from bench.boards.protocol import board_protocol
    from bench.engine import catalog as catalogs
    from bench.engine.runner import cells
    from bench.engine.selection import request

    catalog = catalogs.load(without)
    catalog.require_whole()
    asked = request(catalog, split_lists(options), reference, board_protocol(Path(board)) if board else None)
    for text in asked.skipped:
        complain(f"skipped: {text}")
    found = cells(catalog, asked.cases, asked.metrics)
    if board:
        from bench.publishing.publication import moved

        try:
            for text in moved(Path(board), found):
                complain(text)
        except BenchError as error:  # records that cannot be read must not stop the run that makes them anew
            complain(str(error))
    return catalog, found


def troubles(todo: Sequence[Cell], outcome: Outcome) -> list[str]:
    """What was refused and what failed, a line for each reason."""
    from bench.engine.runner import reason

    found: dict[tuple[str, str], list[str]] = {}
    for cell in {cell.key: cell for cell in todo}.values():
        if cell.refused:
            found.setdefault(("refused", cell.refused), []).append(str(cell))
        elif cell.key in outcome.failures:
            found.setdefault(("failed", reason(outcome.failures[cell.key])), []).append(str(cell))
    return [
        f"{what}: {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {why}"
        for (what, why), names in found.items()
    ]
