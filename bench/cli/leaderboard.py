"""`bench leaderboard`: one function per command."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from bench.cli.loading import collect_later
from bench.cli.options import (
    BOARDS,
    PLACE,
    answer,
    complain,
    finish,
    know_board,
    load_catalog,
    say_count,
    select_cells,
    selecting,
)
from bench.errors import BadValue, CellFailed, EnvironmentProblem
from bench.files import write_file


@click.group()
def leaderboard() -> None:
    """Build boards, publish to them, and verify them."""


def all_boards() -> list[Path]:
    """The folders of all boards."""
    from bench.boards import FILE

    places = [file.parent for file in sorted(Path(BOARDS).glob(f"*/{FILE}"))]
    if not places:
        raise BadValue(f"no board in the folder {BOARDS} (none has a {FILE}); name the folder of a board")
    return places


ZOO = "bench/zoo.toml"  # of a checkout
FOLDER = click.argument("board", metavar="FOLDER", type=PLACE)


@leaderboard.command()
@click.argument("boards", nargs=-1, metavar="[FOLDER]...", type=PLACE)
@click.option("--check", "only_check", is_flag=True, help="Write nothing; exit with 1 if a file is out of date.")
def build(boards: tuple[str, ...], only_check: bool) -> None:
    """Generate the tables and pages of boards from their records.

    Writes README.md, table.csv, table.tex, board.json and index.html of each board.

    Without a FOLDER, builds all boards in the folder leaderboards. The page that leads to these is built with any of
    them.
    """
    from bench.boards import find_outdated

    outdated = []
    for place, files in _generate([Path(board) for board in boards] or all_boards()):
        for name in find_outdated(place, files):
            outdated.append(place / name)
            if not only_check:
                write_file(place / name, files[name].encode())
                answer(place / name)
    if only_check:
        for path in outdated:
            folder = "" if path.resolve().is_relative_to(Path(BOARDS).resolve()) else f" {path.parent}"
            complain(
                f"{path} is not what the records give: they have changed since it was built, or it was edited by hand; "
                f"run bench leaderboard build{folder}"
            )
        finish(CellFailed.exit_code if outdated else 0)


def _generate(places: Iterable[Path]) -> Iterator[tuple[Path, dict[str, str]]]:
    """The folders of boards with their generated files by name; then that of all boards, if it holds one of them."""
    from bench.boards import read_board
    from bench.boards.render import render_board, render_overview

    boards = {}
    for place in places:
        with collect_later():
            boards[place.resolve()] = board = read_board(place)
            files = render_board(board)
        yield place, files
    if any(place.parent == Path(BOARDS).resolve() for place in boards):
        every = [boards.get(place.resolve()) or read_board(place) for place in all_boards()]
        yield Path(BOARDS), render_overview(every)


@leaderboard.command()
@FOLDER
@selecting
@click.option("--name", default="suite", show_default=True, help="Name of the submission.")
@click.option(
    "--meta", metavar="FILE", type=PLACE, help="TOML file with title, authors and so on. [default: write a draft]"
)
@click.option("--add", is_flag=True, help="Add to the records of this name; those need not be in the store.")
@click.option("--replace", is_flag=True, help="Replace the records of this name, an unpublished draft.")
def publish(
    board: str,
    name: str,
    meta: str | None,
    add: bool,
    replace: bool,
    without: tuple[str, ...],
    reference: bool,
    store: str | None,
    device: str,
    **options: tuple[str, ...],
) -> None:
    """Publish stored records on a board, and build it.

    Says what is left to do before the submission can be accepted, such as naming its authors.

    With options of a run for the board, such as --defense, publishes the records of that run alone.
    """
    from bench.boards.submissions.validate import validate as validated
    from bench.engine import open_store
    from bench.publishing import draw_examples, publish as publish_records

    if add and replace:
        raise BadValue("--add keeps the records of this name, and --replace drops them; give one of the two")
    _, cells, _ = select_cells(without, reference, board, options)
    opened = open_store(store, complain)
    count, shared = publish_records(Path(board), name, cells, opened, Path(meta) if meta else None, replace, add)
    answer(f"{say_count(count, 'record')} published as {name}")
    for other, number in sorted(shared.items()):
        answer(f"{say_count(number, 'record')} left out, since {other} has published them")
    pictures = draw_examples(Path(board), name, cells, opened, replace)
    if pictures:
        answer(f"{say_count(pictures, 'row')} drawn below {board}/examples")
    click.get_current_context().invoke(build, boards=(board,), only_check=False)
    for text in validated(Path(board), [name]):
        complain(text)


@leaderboard.command()
@FOLDER
@selecting
@click.option("--name", metavar="NAME", type=PLACE, help="Run the records of this submission instead of the protocol.")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Run only N records, drawn by lot.")
@click.option("--nonce", metavar="TEXT", help="Text that the lot is drawn with. [default: a new one, printed]")
@click.option("--mark", is_flag=True, help="If everything agrees, note it in verified.toml; for maintainers.")
def verify(
    board: str,
    name: str | None,
    sample: int | None,
    nonce: str | None,
    mark: bool,
    without: tuple[str, ...],
    reference: bool,
    store: str | None,
    device: str,
    **options: tuple[str, ...],
) -> None:
    """Run a board again, and compare with what is published.

    Compares the values of every image and their means within the board's tolerance, undefined images, kept predictions,
    flags, objectives, and the metric's direction, unit and range. Costs are not compared. New flags count for a --name
    alone.

    With options of a run, such as --defense, runs only what they select. Name an empty --store to start from nothing.
    A nonce has to be made after the records: whoever knows it earlier can lie where the lot does not look.
    """
    from bench.boards import VERIFIED, add_mark
    from bench.engine import choose_device, open_store
    from bench.publishing import draw_sample, read_published, read_submission, run_again

    place, protocol = Path(board), know_board(board)
    if name and any(options.values()):
        raise BadValue(f"--name {name} already says what to run; leave out --name or the options of a run")
    if mark and not name:
        raise BadValue("--mark is for the records of a submission; give its --name")
    if nonce and not sample:
        raise BadValue(f"--nonce {nonce} draws a sample; give --sample as well, or leave it out")
    cells = None
    if name:
        catalog, runs = load_catalog(without), read_submission(place, name)
    else:
        catalog, cells, _ = select_cells(without, reference, board, options)
        runs = read_published(place, cells)
    if not runs:
        raise BadValue(f"board {board} has published no record that these options select; leave some out")
    if sample:
        nonce = nonce or secrets.token_hex(16)
        complain(f"the lot was drawn with --nonce {nonce}")
        runs, cells = draw_sample(place.resolve().name, runs, sample, nonce), None
    opened, where = open_store(store, complain), choose_device(device)
    found = run_again(protocol, runs, catalog, opened, where, cells, strict=name is not None)
    for text in (*found.notes, *found.lines):
        complain(text)
    differ = len(found.denied) + len(found.missing)
    compared = say_count(len(found.confirmed) + len(found.denied), "published record")
    answer(f"{compared} compared, {differ} differ{'s' * (differ == 1)}")
    if mark and name and not found.lines:
        commits = sorted(found.commits)
        if len(commits) != 1 or not commits[0]:
            raise EnvironmentProblem(
                f"a mark names the commit that ran the records, but theirs is {', '.join(commits) or 'unknown'}; run "
                "bench from a checkout of the suite, with an empty --store"
            )
        add_mark(place, name, found.confirmed, commits[0], nonce or "")
        answer(place / VERIFIED)
    finish(found.exit_code or (CellFailed.exit_code if found.lines else 0))


@leaderboard.command()
@click.argument("before", metavar="BEFORE", type=PLACE)
@click.argument("after", metavar="AFTER", type=PLACE)
def diff(before: str, after: str) -> None:
    """Print which ranks and scores differ, as Markdown.

    BEFORE and AFTER are folders of a board, or of all boards.
    """
    from bench.boards import FILE, read_board
    from bench.boards.render import compare_boards

    states, tops = [], [Path(before), Path(after)]
    for top in tops:
        if not top.is_dir():
            raise EnvironmentProblem(f"folder {top} does not exist; name the folder of a board, or of all boards")
        files = [top / FILE] if (top / FILE).exists() else sorted(top.glob(f"*/{FILE}"))
        # Two states of one board are compared, whatever their folders are called.
        states.append({"" if top == file.parent else file.parent.name: read_board(file.parent) for file in files})
    if not any(states):
        raise BadValue(f"no board in {before} or {after} (none has a {FILE}); name folders of boards")
    one = [top for top in tops if (top / FILE).exists()]
    if len(one) == 1:
        other = next(top for top in tops if top not in one)
        raise BadValue(f"{one[0]} is a board, but {other} is not; name two boards, or two folders of all boards")
    answer(compare_boards(*states), nl=False)


@leaderboard.command()
@click.argument("boards", nargs=-1, metavar="[FOLDER]...", type=PLACE)
@click.option(
    "--base",
    metavar="FOLDER",
    type=PLACE,
    help="The board, or all boards, before the change: published results must stay.",
)
@click.option(
    "--author", default="", metavar="LOGIN", help="Login whose submissions new ones must be; empty for anybody's."
)
def validate(boards: tuple[str, ...], base: str | None, author: str) -> None:
    """Check submissions without running any of their code.

    Checks files and metadata, and that records agree with their keys, their values per image and the board's protocol.

    Without a FOLDER, checks all boards in the folder leaderboards, and the index of networks beside it.
    """
    from bench.boards import FILE
    from bench.boards.networks import inspect_index
    from bench.boards.submissions.validate import inspect

    before = Path(base) if base else None
    if before is not None and not before.is_dir():
        raise EnvironmentProblem(f"base {base} does not exist; name the folder of a board, or of all boards")
    tops = [Path(BOARDS), *([before] if before and not boards else [])]
    names = sorted({file.parent.name for top in tops for file in top.glob(f"*/{FILE}")})
    places = [Path(board) for board in boards] or [Path(BOARDS) / name for name in names]
    if not places:
        raise BadValue(f"no board in the folder {BOARDS} (none has a {FILE}); name the folder of a board")
    lines, submissions, records = [], 0, 0
    for place in places:
        if not boards and not place.is_dir():
            lines.append(f"board {place} was removed; restore it")
            continue
        earlier = before if before is None or (before / FILE).exists() else before / place.resolve().name
        found = inspect(place, base=earlier, author=author)
        lines += found.problems
        submissions, records = submissions + found.submissions, records + found.records
    counts = ""
    if not boards and Path(ZOO).exists():
        problems, networks = inspect_index(Path(ZOO), Path(BOARDS))
        lines, counts = [*lines, *problems], f", {say_count(networks, 'network')}" if networks else ""
    for text in lines:
        complain(text)
    if lines:
        finish(CellFailed.exit_code)
    answer(f"{say_count(submissions, 'submission')}, {say_count(records, 'record')}{counts} valid")
