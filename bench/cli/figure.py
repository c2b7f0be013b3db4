"""`bench figure`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from bench.axes import OPTIONS
from bench.cli.options import (
    BOARD,
    PLACE,
    check_out,
    complain,
    know_board,
    load_catalog,
    select_cells,
    selecting,
    split_lists,
)
from bench.errors import BadValue, UnknownName, suggestion
from bench.files import write_file

ENDINGS = (".csv", ".json")


class Figures(click.Command):
    """Lists the figures in its help."""

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        from bench.publishing import describe_figures

        with formatter.section("Figures"):
            formatter.write_dl(describe_figures())


@click.command(name="figure", cls=Figures)
@click.argument("name", metavar="NAME", type=PLACE)
@selecting
@BOARD
@click.option(
    "--over",
    type=click.Choice([option.name for option in OPTIONS.values() if option.kind]),
    default="defense",
    show_default=True,
    help="Axis whose components have the parameters of --vary.",
)
@click.option("--vary", multiple=True, metavar="PARAMETER=VALUE,...", help="Values of a parameter.")
@click.option("--image", type=click.IntRange(0), default=0, show_default=True, help="Which measured image to draw.")
@click.option("--out", metavar="FILE", type=PLACE, default="figure.png", show_default=True, help="PNG to write.")
@click.option("--data", metavar="FILE", type=PLACE, help="Also write the numbers, as .csv or .json.")
def figure_command(
    name: str,
    without: tuple[str, ...],
    reference: bool,
    board: str | None,
    store: str | None,
    device: str,
    over: str,
    vary: tuple[str, ...],
    image: int,
    out: str,
    data: str | None,
    **options: tuple[str, ...],
) -> None:
    """Draw a figure from stored values.

    Takes the options of `run`, and computes nothing but what it shows of a network: where a value is not stored, it
    names the `bench run` that computes it.

    For example: bench figure sweep --defense l2_cosd --vary cosine=0.1,1,10 --metric rps
    """
    from bench.boards import quick_protocol
    from bench.engine import Shared, choose_device, describe_refusals, expand, open_store, place_networks, read_varied
    from bench.publishing import OF_PICTURES, OF_SCORES, draw_pictures, draw_scores

    if name not in {**OF_SCORES, **OF_PICTURES}:
        raise UnknownName(f"no figure called {name!r}{suggestion(name, [*OF_SCORES, *OF_PICTURES])}")
    for file in (out, *([data] if data else [])):
        check_out(file)
    if data and Path(data).suffix not in ENDINGS:
        raise BadValue(f"--data {data}: the name ends in {' or '.join(ENDINGS)}")
    if name in OF_PICTURES and options["metric"]:
        raise BadValue(f"figure {name} draws an image and no score; leave --metric out")
    place, chosen = open_store(store, complain), choose_device(device)
    varied = read_varied(vary)
    if varied:
        protocol = know_board(board) if board else quick_protocol()
        texts = options[over] or tuple(protocol.metrics if over == "metric" else protocol.axes[over])
        options[over] = tuple(map(str, expand(load_catalog(without), OPTIONS[over].kind, texts, varied)))
    catalog, cells, networks = select_cells(without, reference, board, options)
    for text in describe_refusals(cells):
        complain(text)
    cells = [cell for cell in cells if not cell.refusal]
    if not cells:
        raise BadValue(f"figure {name}: these options select nothing to draw")
    command = _write_command(options, {"board": board, "store": store}, without, reference)
    place_networks(networks, place, catalog)
    if name in OF_SCORES:
        drawing = draw_scores(name, cells, place, over, list(varied), command)
    else:
        cases = list(dict.fromkeys(cell.case for cell in cells if cell.reaches_attack))
        shared = Shared(catalog.library)
        drawing = draw_pictures(name, cases, place, chosen, shared, image, over, list(varied), command)
    write_file(Path(out), drawing.png)
    if data:
        write_file(Path(data), drawing.as_text(Path(data).suffix).encode())
    complain(f"wrote figure {name} to {out}{f', and its numbers to {data}' if data else ''}")


def _write_command(
    options: Mapping[str, Sequence[str]], more: Mapping[str, Any], without: Sequence[str], reference: bool
) -> str:
    """The `bench run` with these options."""
    words = ["bench", "run"]
    for name, value in more.items():
        words += [f"--{name}", value] if value else []
    for name, texts in split_lists(options).items():
        values = [",".join(texts)] if texts and OPTIONS[name].is_list else texts
        words += [word for text in values for word in (f"--{name}", text)]
    words += [word for plugin in without for word in ("--without", plugin)]
    return shlex.join([*words, *([] if reference else ["--no-reference"])])
