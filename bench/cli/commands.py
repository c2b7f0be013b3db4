"""The command line: one function per command. stdout is data, stderr is progress and complaints."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.leaderboard import leaderboard
from bench.cli.options import (
    BOARD,
    DATA_DIR,
    STORE,
    WITHOUT,
    complain,
    describe_troubles,
    explaining,
    select_cells,
    selecting,
    split_lists,
)
from bench.errors import BadValue, BenchError, CellFailed, UnknownName, suggestion

if TYPE_CHECKING:
    from bench.components.base import Component

INTERRUPTED = 130


class Group(click.Group):
    """Turns our errors, click's and an interrupt into one line and an exit code."""

    def main(self, *args: Any, standalone_mode: bool = True, **rest: Any) -> Any:
        try:
            sys.exit(super().main(*args, standalone_mode=False, **rest))
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(error.exit_code)
        except click.ClickException as error:
            complain(" ".join(error.format_message().split()))
            sys.exit(error.exit_code)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BenchError as error:
            complain(str(error))
            return error.exit_code
        except KeyboardInterrupt:
            complain("interrupted; what is finished is kept: the same command goes on from there")
            return INTERRUPTED

    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        if self.get_command(context, args[0]) is None:
            raise UnknownName(f"no command called {args[0]!r}{suggestion(args[0], self.list_commands(context))}")
        return super().resolve_command(context, args)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="robust-explanation-bench", message="%(version)s")
def main() -> None:
    """Attack explanations, train against such attacks, and rank what holds.

    Everything runs on components: data sets, models, schedules, defenses, explainers, attacks and metrics, which come
    from plugins. A component is written NAME or NAME:parameter=value,parameter=value.
    """
    # Whoever kills the process politely gets the same care as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@main.command()
@selecting
@BOARD
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of records instead of a table.")
def run(
    without: tuple[str, ...],
    reference: bool,
    board: str | None,
    store: str | None,
    device: str,
    as_json: bool,
    **options: tuple[str, ...],
) -> None:
    """Train, attack, measure, and print the table.

    Options left out come from the suite's quick.toml. What is stored already is not computed again; run the same
    command to go on after an interruption. Every component option can be repeated, and takes `all`.
    """
    from bench.boards.render.terminal import format_table
    from bench.engine.runner import choose_device, open_store, run_cells

    catalog, todo = select_cells(without, reference, board, options)
    outcome = run_cells(todo, catalog, open_store(store, complain), choose_device(device))
    if as_json:
        click.echo("[" + ",\n ".join(record.line() for record in outcome.records.values()) + "]")
    else:
        rows: dict[Any, dict[str, Any]] = {}
        for cell in todo:
            found = rows.setdefault(cell.case, {})
            if cell.key in outcome.records:
                found[str(cell.metric)] = outcome.records[cell.key]
        shown = [
            ({axis: str(value) for axis, value in case.axes.items()}, found) for case, found in rows.items() if found
        ]
        if shown:
            click.echo(format_table(shown, list(dict.fromkeys(str(cell.metric) for cell in todo))))
    for text in describe_troubles(todo, outcome):
        complain(text)
    sys.exit(outcome.exit_code)


@main.command()
@selecting
@BOARD
def plan(
    without: tuple[str, ...],
    reference: bool,
    board: str | None,
    store: str | None,
    device: str,
    **options: tuple[str, ...],
) -> None:
    """Say what `run` would do; compute nothing."""
    from bench.engine.plan import describe_plan, make_plan
    from bench.engine.runner import choose_device, open_store

    _, todo = select_cells(without, reference, board, options)
    choose_device(device)
    click.echo(describe_plan(make_plan(todo, open_store(store, complain))))


@main.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@explaining
@click.option("--class", "label", metavar="NAME|N", help="Class explained. [default: the one predicted]")
@click.option("--out", metavar="FILE", default="panel.png", show_default=True, help="Where the picture goes.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of predictions and overlaps as well.")
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
    """Explain pictures of one's own, and draw a panel.

    IMAGE is a file, or a folder of them. Each is brought to the size of the data set that the network is trained on;
    of the class that is predicted a map is drawn, and with --attack one of the attacked picture beside it.
    """
    import json

    from bench.engine import catalog as catalogs
    from bench.engine.runner import choose_device, open_store
    from bench.engine.selection import select
    from bench.publishing.examples import check_cases, explain_pictures, list_pictures
    from bench.publishing.panels import draw_panel

    catalog = catalogs.load(without)
    catalog.require_whole()
    selection = select(catalog, split_lists(options), reference=False)
    attack = bool(options["attack"])
    check_cases(selection.cases, catalog, attack)
    place = Path(out)
    if place.is_dir() or not place.absolute().parent.is_dir():
        raise BadValue(f"out {out!r} is no file in a folder that is there; name one such as panel.png")
    files, chosen = list_pictures(images), choose_device(device)
    examples = explain_pictures(files, selection.cases, attack, label, open_store(store, complain), chosen)
    place.write_bytes(draw_panel(examples))
    if as_json:
        click.echo("[" + ",\n ".join(json.dumps(example.row()) for example in examples) + "]")
    for flag in dict.fromkeys(flag for example in examples for flag in example.flags):
        complain(f"warning: {flag}")
    complain(f"{len(examples)} rows drawn to {out}")


@main.command(name="list")
@click.argument("kind", required=False)
@WITHOUT
def list_(kind: str | None, without: tuple[str, ...]) -> None:
    """List what is installed.

    Of one KIND, or of all; `bench list evidence` lists what a metric can ask for.
    """
    from tabulate import tabulate

    from bench.engine import catalog as catalogs

    if kind == "evidence":
        from bench.engine.evidence import VOCABULARY

        lines = [[name, doc_line(value.function)] for name, value in VOCABULARY.values.items()]
        click.echo(tabulate(lines, headers=["evidence", "what"], tablefmt="simple", disable_numparse=True))
        return
    catalog = catalogs.load(without)
    rows = []
    for each in [kind] if kind else catalog.components:
        for name, cls in catalog.of(each).items():
            plugin = catalog.sources[cls]
            rows.append([each, name, first_line(cls), f"{plugin.distribution} {plugin.version}"])
    click.echo(tabulate(rows, headers=["kind", "name", "what", "from"], tablefmt="simple", disable_numparse=True))
    for plugin in catalog.broken:
        complain(f"broken: {plugin.problem}")


@main.command()
@click.argument("component", metavar="KIND:NAME")
@WITHOUT
def show(component: str, without: tuple[str, ...]) -> None:
    """Show a component: its parameters, paper and BibTeX, and which plugin it comes from."""
    import inspect

    from tabulate import tabulate

    from bench.components.base import parameters, write
    from bench.components.kinds import Metric
    from bench.engine import catalog as catalogs
    from bench.engine.graph import dependencies

    catalog = catalogs.load(without)
    kind, colon, name = component.partition(":")
    if not colon:
        if component in catalog.components:
            raise BadValue(f"{component!r} is a kind; bench list {component} shows its components")
        owners = [each for each, theirs in catalog.components.items() if component in theirs] or ["KIND"]
        raise BadValue(f"{component!r} names no kind; write {' or '.join(f'{owner}:{component}' for owner in owners)}")
    cls = catalog.find(kind, name)
    plugin = catalog.sources[cls]
    click.echo(f"{kind} {name}, version {cls.version}, from {plugin.distribution} {plugin.version}\n")
    click.echo(inspect.getdoc(cls) + "\n")
    rows = [
        [p.name, "required" if p.required else write(p.default), p.accepts, p.help] for p in parameters(cls).values()
    ]
    if rows:
        headers = ["parameter", "default", "takes", "meaning"]
        click.echo(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True) + "\n")
    if issubclass(cls, Metric):
        better = cls.better if isinstance(cls.better, str) else "higher or lower, by its parameters,"
        click.echo(f"{better} is better{f', in {cls.unit}' if cls.unit else ''}: {cls.help}")
        click.echo(f"made from {', '.join(dependencies(cls.__call__))}\n")
    for preset, text in cls.presets.items():
        click.echo(f"preset {name}:{preset} is {name}:{text}")
    if cls.paper:
        click.echo(cls.paper.bibtex)


@main.command()
@click.argument("name", required=False)
@DATA_DIR
@WITHOUT
def check(name: str | None, without: tuple[str, ...]) -> None:
    """Check that components keep the contracts of their kinds.

    NAME is a kind, KIND:NAME, KIND:NAME:parameter=value,..., or a distribution or entry point with all that it
    provides; without it, everything installed is checked. The exit code is 1 where a contract does not hold.
    """
    from bench.engine import catalog as catalogs
    from bench.testing.checks import select_checks

    catalog = catalogs.load(without)
    broken = [p for p in catalog.broken if name is None or name in (p.name, p.distribution)]
    for plugin in broken:
        click.echo(f"plugin {plugin.name}  can be used  FAILED: {plugin.problem}")
    for plugin in catalog.broken:
        if plugin not in broken:
            complain(f"broken: {plugin.problem}")
    found, left_out = select_checks(name, catalog)
    if name and left_out and not found:
        raise BadValue("; ".join(left_out))
    for text in left_out:
        complain(f"skipped: {text}")
    if not found and not broken:
        complain(f"{name} provides no components: there is nothing to check")
    about = max((len(f"{one.kind} {one.text}") for one in found), default=0)
    words = max((len(one.words) for one in found), default=0)
    failed = len(broken)
    for one in found:
        why = one.failure()
        failed += bool(why)
        click.echo(f"{f'{one.kind} {one.text}':<{about}}  {one.words:<{words}}  {f'FAILED: {why}' if why else 'ok'}")
    if failed:
        complain(f"{failed} of {len(found) + len(broken)} checks failed")
        sys.exit(CellFailed.exit_code)


@main.command()
@click.argument("kind")
@click.argument("name")
@click.option("--into", metavar="FOLDER", default=".", help="Where the plugin's folder is made. [default: here]")
def new(kind: str, name: str, into: str) -> None:
    """Start a plugin of your own.

    A distribution with one small, working component of a KIND, its tests and a README.

    The folder is called bench-NAME. What the component computes is for you to change.
    """
    from bench.engine import catalog as catalogs
    from bench.testing.scaffold import scaffold

    for path in scaffold(catalogs.load(), kind, name, Path(into)):
        click.echo(path)


main.add_command(leaderboard)


@main.group()
def store() -> None:
    """List what is stored, and clear it up."""


@store.command()
@STORE
def ls(store: str | None) -> None:
    """List what the store holds: values by name, their number and size."""
    from tabulate import tabulate

    from bench.engine.cleanup import list_holdings
    from bench.engine.runner import open_store

    place = open_store(store, complain)
    found = list_holdings(place)
    rows = [[held.name, str(held.count), f"{held.size / 1e6:.1f} MB"] for held in found]
    rows.append(["total", str(sum(h.count for h in found)), f"{sum(h.size for h in found) / 1e6:.1f} MB"])
    click.echo(f"{place.root}\n")
    align = ("left", "right", "right")
    click.echo(tabulate(rows, headers=["value", "number", "size"], colalign=align, disable_numparse=True))


@store.command()
@STORE
@WITHOUT
@click.option("--unfinished", is_flag=True, help="Also checkpoints of trainings that nobody is at.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
def prune(store: str | None, without: tuple[str, ...], unfinished: bool, dry_run: bool) -> None:
    """Remove values that no run can use any more: of versions that have moved, damaged, or half written.

    What belongs to components that are not installed stays.
    """
    from bench.engine import catalog as catalogs
    from bench.engine.cleanup import find_unusable, remove
    from bench.engine.runner import open_store

    catalog = catalogs.load(without)
    catalog.require_whole()
    place = open_store(store, complain)
    count, size = 0, 0
    for found in find_unusable(place, catalog, unfinished):
        click.echo(f"{found.folder.relative_to(place.root)}  {found.size / 1e6:.1f} MB  {found.reason}")
        count, size = count + 1, size + found.size
        if not dry_run:
            remove(place, found)
    click.echo(f"{count} {'would be removed' if dry_run else 'removed'}, {size / 1e6:.1f} MB")


def doc_line(function: Callable[..., Any]) -> str:
    """The docstring of a function in one line."""
    return " ".join((function.__doc__ or "").split())


def first_line(cls: type[Component]) -> str:
    """The first sentence of a component's docstring, cut to what a table can hold."""
    import inspect
    import textwrap

    sentence = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ").split(". ")[0].split(" (")[0]
    return textwrap.shorten(sentence.rstrip(".:"), 90, placeholder=" ...")


if __name__ == "__main__":
    main()
