"""`bench zoo`, and `bench store export`: one function per command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import (
    BOARDS,
    DATA_DIR,
    PLACE,
    STORE,
    WITHOUT,
    add_options,
    answer,
    complain,
    load_catalog,
    split_lists,
    terminal_width,
)
from bench.errors import BadValue

if TYPE_CHECKING:
    from bench.boards import Protocol, Record
    from bench.zoo import Network

NAME = click.argument("name", metavar="NAME")
OUT = click.option("--out", metavar="FOLDER", type=PLACE, required=True, help="Folder to write to.")


@click.group()
def zoo() -> None:
    """List and take networks that others have trained.

    NAME is BOARD/DEFENSE, which means the lowest seed, or BOARD/DEFENSE/SEED, or BOARD/DEFENSE/KEY. A run takes a
    network by --defense zoo:network=NAME.
    """


@zoo.command(name="list")
def list_() -> None:
    """List the networks, with the figures of their rows.

    A figure is shown where the board is in the folder leaderboards.
    """
    from bench.boards.render import draw_table
    from bench.zoo import list_networks

    networks = list_networks()
    if not networks:
        complain("the zoo has no networks yet; bench store export --index adds one")
    boards = {name: _read_board(name) for name in {network.board for network in networks}}
    rows = []
    for network in networks:
        figures = _choose_row(network, *boards[network.board])
        useful = next((r for r in figures if "attack" not in r.axes), None)
        score = next((r for r in figures if "attack" in r.axes), None)
        size = f"{network.bytes / 1e6:.1f}"
        rows.append([network.name, network.key, size, network.licence, _tell(useful), _tell(score)])
    head = ["name", "key", "MB", "licence", "usefulness", "robustness"]
    answer(draw_table(head, rows, terminal_width(), right=(2,)))


def _tell(record: Record | None) -> str:
    return "-" if record is None or record.value is None else f"{record.metric} {record.value:.3f}"


def _read_board(name: str) -> tuple[Protocol | None, list[Record]]:
    """Protocol and records of a board, where it is at hand."""
    from bench.boards import FILE, read_protocol, read_records

    folder = Path(BOARDS) / name
    return (read_protocol(folder), read_records(folder).records) if (folder / FILE).is_file() else (None, [])


def _choose_row(network: Network, protocol: Protocol | None, records: list[Record]) -> list[Record]:
    """The records of a network that its row on a board shows."""
    from bench.boards.networks import choose_figures, find_records

    return choose_figures(protocol, find_records(network, records)) if protocol else []


@zoo.command(name="show")
@NAME
def show_network(name: str) -> None:
    """Show what the index says of a network, and its figures."""
    from bench.zoo import find_network

    network = find_network(name)
    words = {
        "name": network.full_name,
        **network.axes,
        "images": " x ".join(map(str, network.shape)),
        "classes": network.classes,
        "training": f"{sum(phase['seconds'] for phase in network.cost):.0f} s",
        "file": f"{network.file}, {network.bytes} bytes",
        "sha256": network.sha256,
        "licence": network.licence,
        "url": network.url or "none",
        "command": network.command,
        "spec": network.spec,
    }
    for name, text in words.items():
        answer(f"{name:<10}{text}")
    for record in _choose_row(network, *_read_board(network.board)):
        under = " ".join(record.axes.get(axis, "") for axis in ("explainer", "attack", "ball"))
        answer(f"{'figure':<10}{_tell(record)}  {under}".rstrip())


@zoo.command(name="export")
@NAME
@OUT
@DATA_DIR
@WITHOUT
def export_entry(name: str, out: str, without: tuple[str, ...]) -> None:
    """Write a network's file, and a card on how to load it.

    The card loads it in plain torch.
    """
    from bench.components import data_dir
    from bench.publishing import export_network
    from bench.zoo import find_network, read_weights

    network = find_network(name)
    raw = read_weights(network, data_dir())
    protocol, records = _read_board(network.board)
    for file in export_network(network, raw, records, protocol, load_catalog(without), Path(out)):
        answer(file)


@click.command(name="export")
@click.argument("key", required=False, metavar="[KEY]", type=PLACE)
@add_options(
    (WITHOUT, DATA_DIR, STORE), ["dataset", "model", "schedule", "defense", "seed"], defense="Way of training."
)
@OUT
@click.option(
    "--board", metavar="FOLDER", type=PLACE, help="Board with the network's row and the options that you leave out."
)
@click.option("--index", metavar="FILE", type=PLACE, help="Add an entry to this index. Needs --board and --licence.")
@click.option("--licence", default="", metavar="SPDX", help="Licence of the weights, such as CC0-1.0.")
@click.option("--url", default="", metavar="URL", help="Address of the folder that will hold the file.")
def export_stored(
    key: str | None,
    without: tuple[str, ...],
    store: str | None,
    out: str,
    board: str | None,
    index: str | None,
    licence: str,
    url: str,
    **options: tuple[str, ...],
) -> None:
    """Write trained weights, and a card on how to load them.

    The weights are those of the store; the card loads them in plain torch.

    The options are those of the run that trained them; or give the KEY that the store has them under.
    """
    from bench.boards import quick_protocol, read_protocol, read_records
    from bench.engine import open_store, read_records as read_stored_records, select
    from bench.publishing import add_entry, export_network, find_texts, read_stored

    if index and not (board and licence):
        raise BadValue(f"--index {index} needs {'--licence' if board else '--board'} too: an entry names both")
    if key and any(options.values()):
        raise BadValue(f"key {key} already says which network to export; leave out the key or the options")
    catalog, place = load_catalog(without), open_store(store, complain)
    given = {axis: [text] for axis, text in find_texts(place, key).items()} if key else split_lists(options)
    folder = Path(board) if board else None
    protocol = read_protocol(folder) if folder else None
    cases = select(catalog, given, reference=False, protocol=protocol).cases
    chosen = protocol or quick_protocol()
    metric = (chosen.score and chosen.score.against) or chosen.metrics[0]
    entry, raw = read_stored(cases, place, metric, folder.resolve().name if folder else "", licence, url)
    if key and entry.key != key:
        raise BadValue(
            f"key {key} was made by other versions or from other data: the same options now give {entry.key}"
        )
    records = {r.key: r for r in [*read_stored_records(place), *(read_records(folder).records if folder else ())]}
    for file in export_network(entry, raw, records.values(), protocol, catalog, Path(out)):
        answer(file)
    if index:
        add_entry(entry, Path(index))
        answer(index)
