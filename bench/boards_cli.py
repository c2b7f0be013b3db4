"""`bench leaderboard`: one function per command."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.errors import BadValue, CellFailed
from bench.options import asked_cells, asking, complain, troubles


@click.group()
def leaderboard() -> None:
    """Build boards, publish to them, run them again."""


BOARDS = "leaderboards"


def all_boards() -> list[Path]:
    from bench.protocol import FILE

    places = [file.parent for file in sorted(Path(BOARDS).glob(f"*/{FILE}"))]
    if not places:
        raise BadValue(f"no board below the folder {BOARDS} (none has a {FILE}); name one")
    return places


FOLDER = click.argument("board", metavar="FOLDER")


@leaderboard.command()
@click.argument("boards", nargs=-1, metavar="[FOLDER]...")
@click.option("--check", "only_check", is_flag=True, help="Write nothing; exit 1 where a file is not what it would be.")
def build(boards: tuple[str, ...], only_check: bool) -> None:
    """Generate tables and pages from records alone.

    Of each board README.md, table.csv, table.tex, board.json and index.html.

    Without a FOLDER, all boards below the folder leaderboards are built, and the page that leads to them.
    """
    from bench.board import drifted, read_board
    from bench.page import built, overview

    places = [Path(board) for board in boards] or all_boards()
    found = [(place, read_board(place)) for place in places]
    made = [(place, built(board)) for place, board in found]
    if not boards:
        made.append((Path(BOARDS), overview([board for _, board in found])))
    drift = []
    for place, files in made:
        changed = drifted(place, files)
        drift += [place / name for name in changed]
        if not only_check:
            for name in changed:
                (place / name).write_bytes(files[name].encode())
                click.echo(place / name)
    if only_check and drift:
        for path in drift:
            complain(f"{path} is not what its records give; never edit it, run bench leaderboard build")
        sys.exit(CellFailed.exit_code)


@leaderboard.command()
@FOLDER
@asking
@click.option("--name", default="suite", show_default=True, help="Name of the submission: a file of its own.")
def publish(
    board: str,
    name: str,
    without: tuple[str, ...],
    reference: bool,
    store: str | None,
    device: str,
    **options: tuple[str, ...],
) -> None:
    """Put stored records into a board, and build it.

    With the options of a run that was made for the board, such as --defense, only the records of that run.
    """
    from bench import leaderboard as boards
    from bench.runner import open_store

    _, cells = asked_cells(without, reference, board, options)
    count = boards.publish(Path(board), name, cells, open_store(store, complain))
    click.echo(f"{count} records published as {name}")
    click.get_current_context().invoke(build, boards=(board,), only_check=False)


@leaderboard.command()
@FOLDER
@asking
def verify(
    board: str, without: tuple[str, ...], reference: bool, store: str | None, device: str, **options: tuple[str, ...]
) -> None:
    """Run a board again and compare.

    Values must be those published, within the board's tolerance; costs are not compared.

    With the options of a run, such as --defense, only what they ask for. Name an empty --store to begin from nothing.
    """
    from bench.board import compared, read_records
    from bench.leaderboard import published_of
    from bench.protocol import board_protocol
    from bench.runner import choose_device, open_store, run_cells

    catalog, todo = asked_cells(without, reference, board, options)
    records = published_of(read_records(Path(board))[0], todo)
    if not records:
        raise BadValue(f"board {board} has published nothing of what is asked")
    outcome = run_cells(todo, catalog, open_store(store, complain), choose_device(device))
    lines = [*troubles(todo, outcome), *compared(board_protocol(Path(board)), records, outcome.records)]
    for text in lines:
        complain(text)
    click.echo(f"{len(records)} published records compared, {len(lines)} differ")
    sys.exit(outcome.exit_code or (CellFailed.exit_code if lines else 0))
