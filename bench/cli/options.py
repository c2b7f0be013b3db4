"""The options that commands share, and the cells that they select."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from bench.axes import OPTIONS
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.engine import Catalog, Cell


DATA = "bench.stdout"


def complain(text: str) -> None:
    """Print a line to stderr."""
    click.echo(f"bench: {text}", err=True)


def answer(text: object, nl: bool = True) -> None:
    """Print data to stdout, which plugins cannot reach."""
    click.echo(text, click.get_current_context().meta.get(DATA), nl)


def finish(code: int) -> NoReturn:
    """End the command with an exit code."""
    click.get_current_context().exit(code)


@contextlib.contextmanager
def keep_stdout(for_good: bool) -> Iterator[TextIO]:
    """Yield stdout. Inside, whatever else is printed goes to stderr, also by C libraries and by processes.

    It stays so if `for_good`, since what a plugin has started may print as long as the process lives.
    """
    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        try:
            number, errors = stdout.fileno(), sys.stderr.fileno()
        except OSError:  # a stream of Python's alone, in tests
            yield stdout
            return
        stdout.flush()
        with os.fdopen(os.dup(number), "w", encoding=stdout.encoding, errors=stdout.errors) as data:
            os.dup2(errors, number)
            try:
                yield data
            finally:
                stdout.flush()  # what was printed inside may wait in the buffer
                if not for_good:
                    os.dup2(data.fileno(), number)


WITHOUT = click.option(
    "--without", multiple=True, metavar="NAME", help="Leave out a plugin, named by its distribution or entry point."
)


def _set_data_dir(context: click.Context, _: click.Parameter, folder: str | None) -> None:
    from bench.components import use_data_dir

    context.with_resource(use_data_dir(folder))


DATA_DIR = click.option(
    "--data-dir",
    metavar="FOLDER",
    envvar="BENCH_DATA_DIR",
    callback=_set_data_dir,
    expose_value=False,
    help="Folder of data sets, each in a folder of its own.",
)


STORE = click.option(
    "--store",
    metavar="FOLDER",
    envvar="BENCH_STORE",
    help="Folder of stored results. [default: ~/.cache/robust-explanation-bench]",
)


DEVICE = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to compute."
)
REFERENCE = click.option(
    "--reference/--no-reference", default=True, help="Add the reference row, or leave it out. [default: add]"
)


def _add_options(
    shared: Sequence[Callable[..., Any]], names: Sequence[str], **helps: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a decorator that adds options to a command; `helps` replaces the help of some."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        # click shows first the option that is added last.
        for option in shared:
            command = option(command)
        for name in reversed(names):
            text = helps.get(name, OPTIONS[name].help)
            command = click.option(f"--{name}", multiple=True, metavar=OPTIONS[name].metavar, help=text)(command)
        return command

    return add


selecting = _add_options((WITHOUT, DATA_DIR, STORE, DEVICE, REFERENCE), list(OPTIONS))
"""Adds the options that select cells to run, plan, publish or verify."""

explaining = _add_options(
    (WITHOUT, DATA_DIR, STORE, DEVICE),
    [name for name in OPTIONS if name not in ("metric", "target", "split", "samples")],
    dataset="Images that the network is trained on.",
    defense="Way of training.",
    attack="Method that changes the picture. [default: none]",
)
"""Adds the options of `bench explain`."""


def split_lists(options: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Split at commas the texts of options that take numbers and words."""
    return {
        option: [part for text in texts for part in text.split(",")] if OPTIONS[option].is_list else texts
        for option, texts in options.items()
    }


BOARD = click.option(
    "--board",
    metavar="FOLDER",
    help="Take options that you leave out from this board instead of quick.toml; without any, run its whole protocol.",
)


def load_catalog(without: Sequence[str] = (), broken: bool = False) -> Catalog:
    """Load the installed plugins. Raises PluginError where one cannot be used, unless `broken` ones are let through."""
    from bench.engine import load

    context = click.get_current_context()
    if DATA not in context.meta:
        context.meta[DATA] = context.with_resource(keep_stdout(bool(context.find_root().obj)))  # until the command ends
    catalog = load(without)
    if not broken:
        catalog.require_whole()
    return catalog


def select_cells(
    without: Sequence[str], reference: bool, board: str | None, options: Mapping[str, Sequence[str]]
) -> tuple[Catalog, list[Cell]]:
    """The catalog, and the cells that the options of a command select."""
    from bench.boards import read_protocol
    from bench.engine import list_cells, select

    catalog = load_catalog(without)
    selection = select(catalog, split_lists(options), reference, read_protocol(Path(board)) if board else None)
    for text in selection.skipped:
        complain(f"skipped: {text}")
    cells = list_cells(catalog, selection.cases, selection.metrics)
    if board:
        from bench.publishing import describe_stale

        try:
            for text in describe_stale(Path(board), cells):
                complain(text)
        except BenchError as error:  # unreadable records must not stop the run that replaces them
            complain(str(error))
    return catalog, cells
