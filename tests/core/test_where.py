"""Every component, command and path that docs/where.md names is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from bench.axes import OPTIONS
from bench.cli.commands import main
from bench.components.kinds import KINDS
from bench.engine import expand, read_varied
from bench.errors import UnknownName
from bench.publishing import OF_PICTURES, OF_SCORES

ROOT = Path(__file__).parents[2]
ROWS = [line for line in (ROOT / "docs" / "where.md").read_text().splitlines() if re.match(r"\| (?!in the)", line)]


def names_of(row):
    """The names in the last column of a row."""
    return re.findall("`([^`]+)`", row.rsplit(" | ", 1)[1])


def check_command(catalog, words):
    """Parse a command without running it, and read the components that it names."""
    command = main.commands[words[0]]
    options = command.make_context(words[0], words[1:]).params
    if words[0] == "figure":
        assert options["name"] in {**OF_SCORES, **OF_PICTURES}
    over = options.get("over")
    for name, option in OPTIONS.items():
        texts = options[name] if option.kind else ()
        varied = read_varied(options["vary"]) if name == over and options.get("vary") else {}
        assert texts == () or expand(catalog, option.kind, texts, varied)
    if options.get("by"):
        catalog.read("metric", options["by"])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row.split("|")[1:3]))
def test_a_row_names_what_is_there(row, catalog):
    names = names_of(row)
    assert names and row.count(" | ") == 2, "a row has three cells, and names something in the last"
    for name in names:
        kind, _, text = name.partition(":")
        if kind in KINDS and text:
            catalog.read(kind, text)
        elif name.startswith("bench "):
            check_command(catalog, shlex.split(name)[1:])
        else:
            assert list(ROOT.glob(name)), name


def test_a_name_that_is_wrong_would_be_seen(catalog):
    for wrong, error in (
        ("run --defense l2_cosf", UnknownName),
        ("figure maps --defense l2_cosd --vary cosin=1", UnknownName),
        ("figure maps --defence ce", click.NoSuchOption),
        ("figure frob", AssertionError),
        ("frob", KeyError),
    ):
        with pytest.raises(error):
            check_command(catalog, wrong.split())
