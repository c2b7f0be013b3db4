"""`bench select`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from bench.axes import KINDS
from bench.cli.options import (
    BOARD,
    answer,
    complain,
    finish,
    know_board,
    load_catalog,
    select_cells,
    selecting,
    terminal_width,
)
from bench.errors import BadValue, CellFailed

if TYPE_CHECKING:
    from bench.engine import Candidate, Choice

DEFAULT = 0.01


@click.command(name="select")
@selecting
@BOARD
@click.option(
    "--over",
    type=click.Choice(["defense", "explainer", "model", "schedule"]),
    default="defense",
    show_default=True,
    help="What to choose.",
)
@click.option("--vary", multiple=True, metavar="PARAMETER=VALUE,...", help="Values of a parameter to try.")
@click.option(
    "--by", metavar="NAME[:...]", help="Metric to choose by. [default: the score of the board or of quick.toml]"
)
@click.option(
    "--guard",
    type=click.FloatRange(0),
    help=f"How much less accurate than the reference row the choice may be. [default: {DEFAULT}]",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of tables.")
def select_command(
    without: tuple[str, ...],
    reference: bool,
    board: str | None,
    store: str | None,
    device: str,
    over: str,
    vary: tuple[str, ...],
    by: str | None,
    guard: float | None,
    as_json: bool,
    **options: tuple[str, ...],
) -> None:
    """Choose parameters on validation images, and test the choice.

    Runs every component of a grid on the validation split, chooses the best by a metric among those that lose little
    accuracy, and runs that one on the test split. Test images are not used before the choice. The default guard, one
    point of accuracy, is that of Joo et al. (AAAI 2023).

    For example: bench select --defense l2_cosd --vary l2=0.01,0.1,1 --by topk_overlap --attack topk
    """
    from bench.boards import quick_protocol
    from bench.engine import (
        choose,
        choose_device,
        describe_troubles,
        expand,
        format_records,
        open_store,
        place_networks,
        read_varied,
        run_cells,
    )

    if options["split"]:
        raise BadValue(f"--split {','.join(options['split'])}: select uses the validation split; leave it out")
    place, chosen_device = open_store(store, complain), choose_device(device)
    catalog, defaults = load_catalog(without), know_board(board) if board else quick_protocol()
    texts = options[over] or tuple(defaults.axes[over])
    candidates = expand(catalog, KINDS[over], texts, read_varied(vary))
    base = catalog.read(KINDS[over], defaults.reference[over]) if reference and over in defaults.reference else None
    if guard is not None and base is None:
        raise BadValue(f"--guard {guard:g} needs a reference row, and there is none for {over}; leave it out")
    if len([each for each in candidates if each != base]) < 2:
        raise BadValue(f"one {over} leaves nothing to choose; give several, or --vary PARAMETER=VALUE,VALUE")

    score = defaults.score
    if score is None or not score.against:
        raise BadValue(f"board {board} has no score with a metric of usefulness to guard; leave --board out")
    metric, guarded = str(catalog.read("metric", by or score.metric)), str(catalog.read("metric", score.against))
    metrics = tuple(dict.fromkeys([metric, guarded] if base else [metric]))
    grid = {**options, over: tuple(map(str, candidates)), "split": ("validation",), "metric": metrics}
    _, cells, networks = select_cells(without, reference, board, grid)
    place_networks(networks, place, catalog)
    outcome = run_cells(cells, catalog, place, chosen_device)
    choice = choose(outcome, over, metric, guarded, base, DEFAULT if guard is None else guard)
    for text in describe_troubles(outcome):
        complain(text)
    if not as_json:
        answer(_format_choice(choice, over, metric, guarded, cells[0].case.samples))
    if choice.best is None:
        if as_json:
            answer(json.dumps(_as_table(choice, over, metric, guarded), indent=1))
        complain(f"no {over} of the grid can be chosen; widen the grid or the --guard")
        finish(CellFailed.exit_code)

    final = {**options, over: (str(choice.best.component),), "split": ("test",)}
    _, cells, networks = select_cells(without, reference, board, final)
    place_networks(networks, place, catalog)
    tested = run_cells(cells, catalog, place, chosen_device)
    if as_json:
        records = [json.loads(record.line()) for record in tested.records.values()]
        answer(json.dumps({**_as_table(choice, over, metric, guarded), "records": records}, indent=1))
    elif tested.records:
        answer(format_records(tested, terminal_width()))
    for text in describe_troubles(tested):
        complain(text)
    finish(max(outcome.exit_code, tested.exit_code))


def _format_choice(choice: Choice, over: str, metric: str, guarded: str, samples: int) -> str:
    from tabulate import tabulate

    names = [over, metric, *([guarded] if choice.reference else []), ""]
    rows = []
    for each in [*([choice.reference] if choice.reference else []), *choice.candidates]:
        note = "reference" if each is choice.reference else "chosen" if each is choice.best else each.problem
        values = [each.value, *([each.guarded] if choice.reference else [])]
        rows.append([str(each.component), *("-" if value is None else f"{value:.3f}" for value in values), note])
    return f"on {samples} validation images\n\n{tabulate(rows, headers=names, disable_numparse=True)}\n"


def _as_table(choice: Choice, over: str, metric: str, guarded: str) -> dict[str, Any]:
    def fields(each: Candidate | None) -> dict[str, Any] | None:
        if each is None:
            return None
        return {over: str(each.component), metric: each.value, guarded: each.guarded, "problem": each.problem}

    return {
        "by": metric,
        "reference": fields(choice.reference),
        "grid": [fields(each) for each in choice.candidates],
        "chosen": str(choice.best.component) if choice.best else None,
    }
