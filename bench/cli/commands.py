"""The command line: one function per command. stdout is data, stderr is progress and complaints."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import click

from bench.cli.allocator import keep_freed_memory
from bench.cli.choosing import select_command
from bench.cli.figure import figure_command
from bench.cli.interrupts import heed_interrupts
from bench.cli.leaderboard import leaderboard
from bench.cli.options import (
    BOARD,
    DATA_DIR,
    PLACE,
    SCALE,
    STORE,
    WITHOUT,
    answer,
    check_out,
    complain,
    explaining,
    finish,
    give_up,
    know_board,
    load_catalog,
    say_count,
    select_cells,
    selecting,
    split_lists,
    terminal_width,
)
from bench.cli.zoo import export_stored, zoo
from bench.errors import BadValue, BenchError, CellFailed, EnvironmentProblem, UnknownName, suggestion, summarise_error
from bench.files import write_file

INTERRUPTED = 130


class Group(click.Group):
    """Turns our errors, click's and an interrupt into one line and an exit code."""

    def main(self, *args: Any, **extra: Any) -> Any:
        own = threading.enumerate()
        try:
            # As its object, the context knows whether the process is this command alone.
            code = super().main(*args, **{**extra, "standalone_mode": False, "obj": not args})
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            code = error.exit_code
        except click.ClickException as error:
            complain(" ".join(error.format_message().split()))
            code = error.exit_code
        except OSError as error:  # of --help and --version, which do not use `answer`
            if error.filename is not None:
                raise
            complain(str(give_up(sys.stdout, error)))
            code = EnvironmentProblem.exit_code
        is_left = any(thread not in own and not thread.daemon for thread in threading.enumerate())
        if is_left or (not args and "pyarrow" in sys.modules):
            _end_process(code)
        sys.exit(code)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BenchError as error:
            complain(str(error))
            return error.exit_code
        except KeyboardInterrupt:
            complain("interrupted; finished results are kept, and the same command continues from there")
            return INTERRUPTED
        except Exception:  # a fault of the suite shows its traceback
            raise
        except BaseException as error:  # sys.exit and its like
            complain(f"a plugin ended the command by {summarise_error(error)}; finished results are kept")
            return CellFailed.exit_code

    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        if self.get_command(context, args[0]) is None:
            raise UnknownName(f"no command called {args[0]!r}{suggestion(args[0], self.list_commands(context))}")
        return super().resolve_command(context, args)


def _end_process(code: Any) -> NoReturn:
    """End without waiting for threads that a plugin left behind, or for those of libraries.

    A thread of pyarrow's that starts while libraries are taken down aborts the process.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code or 0)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="robust-explanation-bench", message="%(version)s")
def main() -> None:
    """Attack saliency maps, train networks that withstand attacks, and rank the results.

    Data sets, models, schedules, defenses, explainers, attacks and metrics are components, which plugins provide. Write
    a component as NAME or NAME:parameter=value,parameter=value.
    """
    heed_interrupts()
    keep_freed_memory()


@main.command()
@selecting
@BOARD
@SCALE
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of records instead of a table.")
@click.option("--plot", metavar="FILE", type=PLACE, help="Also draw the scores over budgets, as a PNG.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    default=1,
    help="Compute N values at a time, each on cores or a GPU of its own.",
)
@click.option(
    "--ray",
    is_flag=False,
    flag_value="local",
    metavar="[ADDRESS]",
    help="Compute on a Ray cluster: at this address, auto for a running one, or one started here.",
)
@click.option(
    "--share",
    type=click.IntRange(1),
    metavar="N",
    default=1,
    help="Let N jobs share a core or a GPU, and say so in the records.",
)
@click.option("--isolate", is_flag=True, help="Compute in a process of its own, so that a crash costs one cell.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Give up a value that takes longer, such as a training or an attack. Implies --isolate.",
)
def run(
    without: tuple[str, ...],
    reference: bool,
    board: str | None,
    scale: str | None,
    store: str | None,
    device: str,
    as_json: bool,
    jobs: int,
    ray: str | None,
    share: int,
    plot: str | None,
    isolate: bool,
    timeout: float | None,
    **options: tuple[str, ...],
) -> None:
    """Train, attack, measure, and print a table.

    Options that you leave out take their values from the suite's quick.toml. Stored results are reused, so the same
    command continues after an interruption. Options that name components can be repeated, and accept `all`. With
    several budgets, a second table has the areas under the scores.
    """
    from bench.boards.render import format_areas
    from bench.engine import (
        Cluster,
        Executor,
        Processes,
        choose_device,
        describe_failures,
        describe_refusals,
        format_records,
        list_curves,
        open_store,
        place_networks,
        run_cells,
    )

    file = check_out(plot, "--plot") if plot else None
    if ray and (jobs > 1 or isolate or timeout is not None):
        raise BadValue("--ray starts its own processes; leave out --jobs, --isolate and --timeout")
    catalog, cells, networks = select_cells(without, reference, board, options, scale)
    if plot and len({cell.case.ball for cell in cells if "ball" in cell.axes}) < 2:
        raise BadValue(f"--plot {plot}: no score has several budgets; give two with --eps, such as 2/255,4/255")
    place, chosen = open_store(store, complain), choose_device("auto" if ray else device)
    place_networks(networks, place, catalog)
    for text in describe_refusals(cells):
        complain(text)
    with contextlib.ExitStack() as around:
        executor: Executor | None = None
        if ray:
            executor = around.enter_context(Cluster(catalog, place, device, ray, share))
        elif jobs > 1 or isolate or timeout is not None:
            executor = around.enter_context(Processes(catalog, place, chosen, jobs, share, timeout, int(not isolate)))
        outcome = run_cells(cells, catalog, place, chosen, executor)
    curves = list_curves(outcome.records.values(), place)
    if as_json:
        answer("[" + ",\n ".join(record.line() for record in outcome.records.values()) + "]")
    elif outcome.records:
        answer(format_records(outcome, terminal_width()))
        if areas := format_areas(curves, terminal_width()):
            answer(f"\n{areas}")
    if file and curves:
        from bench.publishing import draw_curves

        write_file(file, draw_curves(curves).png)
    for text in describe_failures(outcome):
        complain(text)
    finish(outcome.exit_code)


@main.command()
@selecting
@BOARD
@SCALE
def plan(
    without: tuple[str, ...],
    reference: bool,
    board: str | None,
    scale: str | None,
    store: str | None,
    device: str,
    **options: tuple[str, ...],
) -> None:
    """Say what `run` would do, without computing anything.

    For a board with figures of a paper, lists the cells that the paper printed, and what each takes to compute.
    """
    from bench.boards import read_records
    from bench.engine import choose_device, describe_plan, describe_printed, list_printed, make_plan, open_store, select

    place = open_store(store, complain)
    choose_device(device)
    protocol = know_board(board, scale) if board else None
    if board and protocol and protocol.paper:
        catalog = load_catalog(without)
        chosen = select(catalog, split_lists(options), reference, protocol)
        if not read_records(Path(board)).records:
            answer("protocol only: no records yet\n")
        cells = list_printed(protocol, chosen.cases, chosen.metrics, catalog, place)
        answer(describe_printed(protocol, cells, terminal_width()) + "\n")
    _, to_run, networks = select_cells(without, reference, board, options, scale)
    answer(describe_plan(make_plan(to_run, place, networks), place))


@main.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=PLACE)
@explaining
@click.option("--class", "label", metavar="NAME|N", help="Class to explain. [default: the predicted one]")
@click.option(
    "--out", metavar="FILE", type=PLACE, default="panel.png", show_default=True, help="File to write the panel to."
)
@click.option("--json", "as_json", is_flag=True, help="Also print a JSON array of predictions and overlaps.")
def explain(
    images: tuple[str, ...],
    without: tuple[str, ...],
    store: str | None,
    device: str,
    label: str | None,
    out: str,
    as_json: bool,
    **options: tuple[str, ...],
) -> None:
    """Explain your own pictures, and draw a panel.

    IMAGE is a picture or a folder of pictures. Each is prepared as the data set prepares its images, or as the trained
    weights that a --model names expect them, which need no data set. The panel shows the map of the predicted class
    and, with --attack, the map of the attacked picture beside it.

    For example: bench explain dog.jpg --model torchvision:arch=resnet50,weights=DEFAULT
    """
    import json

    from bench.engine import Shared, choose_device, open_store, place_networks, select, tell_work
    from bench.publishing import check_cases, draw_panel, explain_pictures, list_pictures, use_own_weights

    catalog = load_catalog(without)
    selection = select(catalog, split_lists(options), reference=False)
    attack, has_data = bool(options["attack"]), bool(options["dataset"])
    is_free = not has_data and not options["defense"]
    cases = use_own_weights(selection.cases, catalog) if is_free else list(selection.cases)
    check_cases(cases, catalog, attack)
    file = check_out(out, "--out", "panel.png")
    pictures, chosen = list_pictures(images), choose_device(device)
    place, shared = open_store(store, complain), Shared(catalog.library)
    place_networks(selection.networks, place, catalog)
    with tell_work():
        examples = explain_pictures(pictures, cases, attack, label, place, chosen, shared, has_data)
    write_file(file, draw_panel(examples).as_png())
    if as_json:
        answer("[" + ",\n ".join(json.dumps(example.row()) for example in examples) + "]")
    for flag in dict.fromkeys(flag for example in examples for flag in example.flags):
        complain(f"warning: {flag}")
    complain(f"wrote a panel of {say_count(len(examples), 'row')} to {out}")


@main.command(name="list")
@click.argument("kind", required=False, type=PLACE)
@WITHOUT
def list_(kind: str | None, without: tuple[str, ...]) -> None:
    """List installed components of one KIND, or of all.

    `bench list evidence` lists what a metric can ask for.
    """
    from bench.engine import list_components, list_evidence

    if kind == "evidence":
        answer(list_evidence(terminal_width()))
        return
    catalog = load_catalog(without, broken=True)
    answer(list_components(catalog, kind, terminal_width()))
    for plugin in catalog.broken:
        complain(f"broken: {plugin.problem}")


@main.command()
@click.argument("component", metavar="KIND:NAME")
@WITHOUT
def show(component: str, without: tuple[str, ...]) -> None:
    """Show the parameters, paper and plugin of a component."""
    from bench.engine import describe_component, find_component

    catalog = load_catalog(without, broken=True)
    answer(describe_component(catalog, find_component(catalog, component), terminal_width()))


@main.command()
@click.argument("name", required=False, type=PLACE)
@DATA_DIR
@WITHOUT
def check(name: str | None, without: tuple[str, ...]) -> None:
    """Check that components keep the contracts of their kinds.

    NAME is a kind, KIND:NAME, KIND:NAME:parameter=value,..., a distribution or an entry point. Without NAME, everything
    installed is checked. Exits with 1 if a check fails.
    """
    from bench.testing import select_checks

    catalog = load_catalog(without, broken=True)
    broken = [plugin for plugin in catalog.broken if name is None or name in (plugin.name, plugin.distribution)]
    for plugin in broken:
        answer(f"plugin {plugin.name}  can be used  FAILED: {plugin.problem}")
    for plugin in catalog.broken:
        if plugin not in broken:
            complain(f"broken: {plugin.problem}")
    checks, left_out = select_checks(name, catalog)
    if name and left_out and not checks:
        raise BadValue("; ".join(left_out))
    for text in left_out:
        complain(f"skipped: {text}")
    if not checks and not broken:
        complain(f"{name} provides no components, so there is nothing to check")
    widths = [max(map(len, column)) for column in zip(*((str(c.component), c.words) for c in checks), strict=True)]
    failed = len(broken)
    for each in checks:
        why = each.failure()
        failed += bool(why)
        answer(f"{each.component:<{widths[0]}}  {each.words:<{widths[1]}}  {f'FAILED: {why}' if why else 'ok'}")
    if failed:
        complain(f"{failed} of {len(checks) + len(broken)} checks failed")
        finish(CellFailed.exit_code)


@main.command()
@click.argument("kind")
@click.argument("name")
@click.option(
    "--into", metavar="FOLDER", type=PLACE, default=".", help="Folder to create it in. [default: the current folder]"
)
def new(kind: str, name: str, into: str) -> None:
    """Create a plugin with one component of a KIND.

    Writes the folder bench-NAME: a distribution with a small, working component, its tests and a README. What the
    component computes is for you to change.
    """
    from bench.testing import scaffold

    for path in scaffold(load_catalog(broken=True), kind, name, Path(into)):
        answer(path)


main.add_command(figure_command)
main.add_command(leaderboard)
main.add_command(select_command)
main.add_command(zoo)


@main.group()
def store() -> None:
    """List and export stored results, and remove useless ones."""


@store.command()
@STORE
def ls(store: str | None) -> None:
    """List stored values by name, with their number and size."""
    from bench.boards.render import draw_table
    from bench.engine import list_holdings, open_store

    place = open_store(store, complain)
    holdings = list_holdings(place)
    rows = [[held.name, str(held.count), f"{held.size / 1e6:.1f} MB"] for held in holdings]
    rows.append(["total", str(sum(h.count for h in holdings)), f"{sum(h.size for h in holdings) / 1e6:.1f} MB"])
    answer(f"{place.root}\n")
    answer(draw_table(["value", "number", "size"], rows, terminal_width(), right=(1, 2)))


@store.command()
@STORE
@WITHOUT
@click.option("--unfinished", is_flag=True, help="Also remove checkpoints of trainings that no process works on.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
def prune(store: str | None, without: tuple[str, ...], unfinished: bool, dry_run: bool) -> None:
    """Remove values that no run can use any more.

    These are values of old versions, damaged values, and the remains of interrupted writes. Values of components that
    are not installed stay.
    """
    from bench.engine import find_unusable, open_store, remove

    catalog = load_catalog(without)
    place = open_store(store, complain)
    count, size = 0, 0
    for unusable in find_unusable(place, catalog, unfinished):
        answer(f"{unusable.folder.relative_to(place.root)}  {unusable.size / 1e6:.1f} MB  {unusable.reason}")
        count, size = count + 1, size + unusable.size
        if not dry_run:
            remove(place, unusable)
    answer(f"{count} {'would be removed' if dry_run else 'removed'}, {size / 1e6:.1f} MB")


store.add_command(export_stored)

if __name__ == "__main__":
    main()
