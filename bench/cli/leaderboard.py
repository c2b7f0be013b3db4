"""`bench leaderboard`: one function per command."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from bench.cli.options import complain, describe_troubles, select_cells, selecting
from bench.errors import BadValue, CellFailed


@click.group()
def leaderboard() -> None:
    """Build boards, publish to them, run them again."""


BOARDS = "leaderboards"


def all_boards() -> list[Path]:
    from bench.boards.protocol import FILE

    places = [file.parent for file in sorted(Path(BOARDS).glob(f"*/{FILE}"))]
    if not places:
        raise BadValue(f"no board below the folder {BOARDS} (none has a {FILE}); name one")
    return places


def _once(problems: Iterable[str]) -> list[str]:
    """Of lines `WHAT: WHY` the first of each reason, and how many more there are."""
    found: dict[str, list[str]] = {}
    for text in problems:
        found.setdefault(text.partition(": ")[2], []).append(text)
    return [texts[0] + (f" ({len(texts) - 1} more like this)" if texts[1:] else "") for texts in found.values()]


FOLDER = click.argument("board", metavar="FOLDER")


@leaderboard.command()
@click.argument("boards", nargs=-1, metavar="[FOLDER]...")
@click.option("--check", "only_check", is_flag=True, help="Write nothing; exit 1 where a file is not what it would be.")
def build(boards: tuple[str, ...], only_check: bool) -> None:
    """Generate tables and pages from records alone.

    Of each board README.md, table.csv, table.tex, board.json and index.html.

    Without a FOLDER, all boards below the folder leaderboards are built. The page that leads to these is built with any
    of them.
    """
    from bench.boards.folder import find_outdated

    outdated = []
    for place, files in _generate([Path(board) for board in boards] or all_boards()):
        for name in find_outdated(place, files):
            outdated.append(place / name)
            if not only_check:
                (place / name).write_bytes(files[name].encode())
                click.echo(place / name)
    if only_check:
        for path in outdated:
            folder = "" if path.resolve().is_relative_to(Path(BOARDS).resolve()) else f" {path.parent}"
            complain(
                f"{path} is not what the records give: they have changed since it was built, or it was edited by hand; "
                f"run bench leaderboard build{folder}"
            )
        sys.exit(CellFailed.exit_code if outdated else 0)


def _generate(places: Iterable[Path]) -> Iterator[tuple[Path, dict[str, str]]]:
    """The folders of boards with their generated files by name; then that of all boards, if it holds one of them."""
    from bench.boards.board import read_board
    from bench.boards.render.site import render_board, render_overview

    boards = {}
    for place in places:
        boards[place.resolve()] = board = read_board(place)
        yield place, render_board(board)
    if any(place.parent == Path(BOARDS).resolve() for place in boards):
        every = [boards.get(place.resolve()) or read_board(place) for place in all_boards()]
        yield Path(BOARDS), render_overview(every)


@leaderboard.command()
@FOLDER
@selecting
@click.option("--name", default="suite", show_default=True, help="Name of the submission: a file of its own.")
@click.option("--meta", metavar="FILE", help="Title, authors and so on, as TOML. [default: one to fill in is written]")
@click.option("--replace", is_flag=True, help="Replace other records of this name, which nobody has seen yet.")
def publish(
    board: str,
    name: str,
    meta: str | None,
    replace: bool,
    without: tuple[str, ...],
    reference: bool,
    store: str | None,
    device: str,
    **options: tuple[str, ...],
) -> None:
    """Put stored records into a board, and build it.

    Says what is left to do before others can take it, such as filling in who ran it.

    With the options of a run that was made for the board, such as --defense, only the records of that run.
    """
    from bench.boards.submissions.validate import validate as validated
    from bench.engine.runner import open_store
    from bench.publishing import publication as boards

    _, cells = select_cells(without, reference, board, options)
    beside = Path(meta) if meta else None
    found = open_store(store, complain)
    count, shared = boards.publish(Path(board), name, cells, found, beside, replace)
    click.echo(f"{count} records published as {name}")
    for other, those in sorted(shared.items()):
        click.echo(f"{those} records left out, since {other} has published them")
    pictures = boards.draw_examples(Path(board), name, cells, found)
    if pictures:
        click.echo(f"{pictures} rows drawn below {board}/examples")
    click.get_current_context().invoke(build, boards=(board,), only_check=False)
    for text in validated(Path(board), [name]):
        complain(text)


@leaderboard.command()
@FOLDER
@selecting
@click.option("--name", metavar="NAME", help="Run what the records of this submission say, instead of the protocol.")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Run only N of the records, drawn by lot.")
@click.option("--draw", default="", metavar="TEXT", help="What the lot is drawn from, beside the keys of all records.")
def verify(
    board: str,
    name: str | None,
    sample: int | None,
    draw: str,
    without: tuple[str, ...],
    reference: bool,
    store: str | None,
    device: str,
    **options: tuple[str, ...],
) -> None:
    """Run a board again and compare.

    Values must be those published, within the board's tolerance; costs are not compared.

    With the options of a run, such as --defense, only what they ask for. Name an empty --store to begin from nothing.
    """
    from bench.boards.board import compare_runs
    from bench.boards.folder import read_records
    from bench.boards.protocol import read_protocol
    from bench.engine import catalog as catalogs
    from bench.engine.runner import choose_device, open_store, run_cells
    from bench.publishing.publication import draw_sample, make_cells, match_records, read_submission

    place, protocol = Path(board), read_protocol(Path(board))
    if name and any(options.values()):
        raise BadValue(f"--name {name} says what is run; leave out either it or the options of a run")
    if name:
        catalog, todo, records = catalogs.load(without), [], read_submission(place, name)
        catalog.require_whole()
    else:
        catalog, todo = select_cells(without, reference, board, options)
        records = match_records(read_records(place).records, todo)
    if not records:
        raise BadValue(f"board {board} has published nothing of what is asked")
    if sample:
        records = draw_sample(place.resolve().name, records, sample, draw)
    problems: dict[str, str] = {}
    if sample or name:
        todo, problems = make_cells(records, catalog, protocol)
    records = [record for record in records if record.key not in problems]
    outcome = run_cells(todo, catalog, open_store(store, complain), choose_device(device))
    told = _once(problems.values())
    lines = [*told, *describe_troubles(todo, outcome), *compare_runs(protocol, records, outcome.records)]
    for text in lines:
        complain(text)
    differ = len(lines) - len(told) + len(problems)
    click.echo(f"{len(records)} published records compared, {differ} differ")
    sys.exit(outcome.exit_code or (CellFailed.exit_code if lines else 0))


@leaderboard.command()
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
def diff(before: str, after: str) -> None:
    """Say which ranks and scores differ between two states.

    BEFORE and AFTER are folders of a board, or of all boards. Prints Markdown.
    """
    from bench.boards.board import read_board
    from bench.boards.protocol import FILE
    from bench.boards.render.diff import compare_boards
    from bench.errors import EnvironmentProblem

    states, tops = [], [Path(before), Path(after)]
    for top in tops:
        if not top.is_dir():
            raise EnvironmentProblem(f"folder {top} is not there; name that of a board, or of all")
        files = [top / FILE] if (top / FILE).exists() else sorted(top.glob(f"*/{FILE}"))
        # Two states of one board are compared, whatever their folders are called.
        states.append({"" if top == file.parent else file.parent.name: read_board(file.parent) for file in files})
    if not any(states):
        raise BadValue(f"no board in {before} or {after} (none has a {FILE}); name folders of a board, or of all")
    one = [top for top in tops if (top / FILE).exists()]
    if len(one) == 1:
        other = next(top for top in tops if top not in one)
        raise BadValue(f"{one[0]} is a board and {other} is none; name two boards, or two folders of all boards")
    click.echo(compare_boards(*states), nl=False)


@leaderboard.command()
@click.argument("boards", nargs=-1, metavar="[FOLDER]...")
@click.option(
    "--base", metavar="FOLDER", help="The board, or the folder of all boards, as it was before: results stay."
)
def validate(boards: tuple[str, ...], base: str | None) -> None:
    """Check submissions without running anything of theirs.

    Files, metadata, and whether records are what their keys, their images' values and the board's protocol say.

    Without a FOLDER, all boards below the folder leaderboards are checked.
    """
    from bench.boards.protocol import FILE
    from bench.boards.submissions.validate import inspect
    from bench.errors import EnvironmentProblem

    before = Path(base) if base else None
    if before is not None and not before.is_dir():
        raise EnvironmentProblem(f"base {base} cannot be read; name the folder of a board, or of all")
    tops = [Path("leaderboards"), *([before] if before and not boards else [])]
    names = sorted({file.parent.name for top in tops for file in top.glob(f"*/{FILE}")})
    places = [Path(board) for board in boards] or [Path("leaderboards") / name for name in names]
    if not places:
        raise BadValue(f"no board below the folder leaderboards (none has a {FILE}); name one")
    lines, submissions, records = [], 0, 0
    for place in places:
        if not boards and not place.is_dir():
            lines.append(f"{place} is gone, and was a board; put it back")
            continue
        earlier = before if before is None or (before / FILE).exists() else before / place.resolve().name
        found = inspect(place, base=earlier)
        lines += found.problems
        submissions, records = submissions + found.submissions, records + found.records
    for text in lines:
        complain(text)
    if lines:
        sys.exit(CellFailed.exit_code)
    click.echo(f"{submissions} submissions, {records} records valid")
