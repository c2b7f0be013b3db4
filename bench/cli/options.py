"""The options that commands share, and the cells that they select."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from bench.axes import OPTIONS
from bench.cli.loading import collect_later
from bench.errors import BadValue, BenchError, EnvironmentProblem, UnknownName, clean

if TYPE_CHECKING:
    from bench.boards import Protocol
    from bench.engine import Catalog, Cell
    from bench.zoo import Network


BOARDS = "leaderboards"
USUAL = 80  # characters of a line where a terminal does not say
DATA = "bench.stdout"
LONGEST = 2000  # characters of a line on stderr


def say_count(count: int, noun: str) -> str:
    """A number of things in words: "1 record", "2 records"."""
    return f"{count} {noun}{'s' * (count != 1)}"


def complain(text: str) -> None:
    """Print a line to stderr. Of a long one, the middle is left out: the way out stands at its end."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    click.echo(f"bench: {clean(text, None)}", err=True)


def answer(text: object, nl: bool = True) -> None:
    """Print data to stdout, which plugins cannot reach. Raises EnvironmentProblem where it cannot be written."""
    stream: TextIO = click.get_current_context().meta.get(DATA) or sys.stdout
    encoding = stream.encoding or "utf-8"
    try:
        click.echo(str(text).encode(encoding, "backslashreplace").decode(encoding), stream, nl)
    except OSError as error:
        raise give_up(stream, error) from None


def terminal_width() -> int | None:
    """The characters of a line where stdout is a terminal, or None."""
    stream: TextIO = click.get_current_context().meta.get(DATA) or sys.stdout
    return (os.get_terminal_size(stream.fileno()).columns or USUAL) if stream.isatty() else None


def give_up(stream: TextIO, error: OSError) -> Exception:
    """What to raise where stdout cannot be written. A reader that has seen enough is no error.

    What the stream still holds is dropped: it would be written once more when the process ends.
    """
    if error.errno == errno.EPIPE:
        return error
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return EnvironmentProblem(
        f"stdout cannot be written ({error.strerror}); free some space, or send it to another place"
    )


def check_out(name: str, option: str = "--out", example: str = "figure.png") -> Path:
    """The file that an option names. Raises BadValue unless it can be one, in a folder that exists."""
    file = Path(name)
    is_other = file.exists() and not (file.is_file() or file.is_char_device())
    if is_other or not file.absolute().parent.is_dir():
        raise BadValue(f"{option} {name} is not a file in an existing folder; name one, such as {example}")
    return file


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


class Place(click.ParamType):
    """A path or the name of a file. The empty text would be the current folder."""

    name = "place"

    def convert(self, value: str, parameter: click.Parameter | None, context: click.Context | None) -> str:
        if not value or "\0" in value:
            self.fail(f"{value!r} names nothing; write a name, or leave it out", parameter, context)
        return value


PLACE = Place()

WITHOUT = click.option(
    "--without", multiple=True, metavar="NAME", help="Leave out a plugin, named by its distribution or entry point."
)


def _set_data_dir(context: click.Context, _: click.Parameter, folder: str | None) -> None:
    with collect_later():
        from bench.components import use_data_dir

    context.with_resource(use_data_dir(folder))


DATA_DIR = click.option(
    "--data-dir",
    metavar="FOLDER",
    type=PLACE,
    envvar="BENCH_DATA_DIR",
    callback=_set_data_dir,
    expose_value=False,
    help="Folder of data sets, each in a folder of its own.",
)


STORE = click.option(
    "--store",
    metavar="FOLDER",
    type=PLACE,
    envvar="BENCH_STORE",
    help="Folder of stored results. [default: ~/.cache/robust-explanation-bench]",
)


DEVICE = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to compute."
)
REFERENCE = click.option(
    "--reference/--no-reference", default=True, help="Add the reference row, or leave it out. [default: add]"
)


def add_options(
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


selecting = add_options((WITHOUT, DATA_DIR, STORE, DEVICE, REFERENCE), list(OPTIONS))
"""Adds the options that select cells to run, plan, publish or verify."""

explaining = add_options(
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
    type=PLACE,
    help="Take options that you leave out from this board instead of quick.toml; without any, run its whole protocol.",
)


def load_catalog(without: Sequence[str] = (), broken: bool = False) -> Catalog:
    """Load the installed plugins. Raises PluginError where one cannot be used, unless `broken` ones are let through."""
    with collect_later():
        from bench.engine import load

    context = click.get_current_context()
    if DATA not in context.meta:
        context.meta[DATA] = context.with_resource(keep_stdout(bool(context.find_root().obj)))  # until the command ends
    with collect_later():
        catalog = load(without)
    if not broken:
        catalog.require_whole()
    return catalog


SCALE = click.option(
    "--scale", metavar="NAME", help="Run a smaller protocol of the --board, such as tiny, to see that it works."
)


def know_board(board: str, scale: str | None = None) -> Protocol:
    """The protocol of a board, whose files the command finds from now on, or one of its scales."""
    from bench.boards import read_protocol, scale_protocol
    from bench.components import know_files

    protocol = read_protocol(Path(board))
    if scale:
        protocol = scale_protocol(protocol, scale)
    click.get_current_context().with_resource(know_files(protocol.files))
    return protocol


def select_cells(
    without: Sequence[str],
    reference: bool,
    board: str | None,
    options: Mapping[str, Sequence[str]],
    scale: str | None = None,
) -> tuple[Catalog, list[Cell], tuple[Network, ...]]:
    """The catalog, the cells that the options of a command select, and the networks that they take from the zoo."""
    from bench.engine import list_cells, select

    if scale and not board:
        raise BadValue(f"--scale {scale} is of a board; give its --board")
    catalog, protocol = load_catalog(without), know_board(board, scale) if board else None
    try:
        selection = select(catalog, split_lists(options), reference, protocol)
    except UnknownName as problem:
        raise UnknownName(f"{problem}{_tell_absent(board, catalog) if board else ''}") from None
    for text in selection.skipped:
        complain(f"skipped: {text}")
    if protocol:
        from bench.publishing import check_data

        check_data(protocol, catalog, {case.dataset for case in selection.cases})
    cells = list_cells(catalog, selection.cases, selection.metrics)
    if board and not scale:
        from bench.publishing import describe_stale

        try:
            for text in describe_stale(Path(board), cells):
                complain(text)
        except BenchError as error:  # unreadable records must not stop the run that replaces them
            complain(str(error))
    return catalog, cells, selection.networks


def _tell_absent(board: str, catalog: Catalog) -> str:
    from bench.boards import read_records
    from bench.publishing import tell_absent

    try:
        return tell_absent(f"records of {board}", read_records(Path(board)).records, catalog)
    except BenchError:  # the problem that asks is told in any case
        return ""
