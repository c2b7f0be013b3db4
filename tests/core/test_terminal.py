"""What a terminal of some width shows. Pipes and files get the plain tables that other tests read."""

from __future__ import annotations

import dataclasses
import io
import os
import pty
import re
import termios

import click
import pytest
from test_board import BLANK

from bench.boards.render import draw_table, format_table
from bench.cli.commands import main
from bench.cli.options import DATA, terminal_width
from bench.engine.plan import describe_duration, describe_size

NETWORK = {"dataset": "shapes", "model": "lenet", "defense": "ce"}


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def record(metric, value, axes, ci95=None, better="higher"):
    key = f"{metric} {value} {axes}"
    return dataclasses.replace(BLANK, metric=metric, value=value, axes=axes, key=key, ci95=ci95, better=better)


def make_rows(attacks=("topk", "noise"), defenses=("ce", "l2")):
    rows = []
    for defense in defenses:
        for place, attack in enumerate(attacks):
            network = {**NETWORK, "defense": defense}  # what its accuracy depends on
            axes = {**network, "explainer": "gradient", "surrogate": "gradient", "attack": attack, "ball": "linf:8/255"}
            scores = {
                "accuracy": record("accuracy", 0.9, network),
                "overlap": record("overlap", 0.1 + place / 2, axes),
                "shift": record("shift", 0.1 + place / 2, axes, better="lower"),
            }
            rows.append((axes, scores))
    return rows


METRICS = ["accuracy", "overlap", "shift"]


def test_what_belongs_to_networks_is_told_once_each():
    text = plain(format_table(make_rows(), METRICS, 80))
    assert re.findall(r"(?m)^(ce|l2) +0\.900", text) == ["ce", "l2"] and text.count("accuracy") == 1
    assert text.startswith("dataset shapes, model lenet, explainer gradient, ball linf:8/255\n")
    assert "surrogate" not in text  # it is the explainer itself


def test_a_surrogate_shows_where_it_is_not_the_explainer():
    (axes, scores), *others = make_rows(defenses=("ce",))
    text = plain(format_table([({**axes, "surrogate": "smoothgrad"}, scores), *others], METRICS, 100))
    lines = [line.split() for line in text.splitlines() if line.startswith(("defense", "ce"))]
    assert lines[2][:3] == ["defense", "surrogate", "attack"]
    assert lines[3][:3] == ["ce", "smoothgrad", "topk"] and lines[4][:2] == ["ce", "noise"]


def test_the_worst_of_several_attacks_has_a_line():
    text = plain(format_table(make_rows(), METRICS, 80))
    # The lowest overlap and the largest shift; accuracy does not depend on attacks.
    assert [line.split() for line in text.splitlines() if "worst of 2" in line] == [
        ["ce", "worst", "of", "2", "0.100", "0.600"],
        ["l2", "worst", "of", "2", "0.100", "0.600"],
    ]
    assert "worst" not in plain(format_table(make_rows(attacks=("topk",)), METRICS, 80)).lower()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_tables_fit_the_width(width):
    names = [f"metric_{place}" for place in range(9)]
    rows = make_rows(attacks=("topk:k=100,steps=50", "target_map:steps=300,rate=0.01"))
    scores = {name: record(name, 0.123, rows[0][0], ci95=(0.1, 0.2)) for name in names}
    lines = plain(format_table([(axes, scores) for axes, _ in rows], names, width)).splitlines()
    assert max(map(len, lines)) <= width
    found = " ".join(lines)
    assert all(found.count(name) == 1 for name in names)
    assert found.count("0.123 [0.10, 0.20]") == 9 * (len(rows) + 2)


def test_long_words_are_wrapped_and_nothing_is_cut():
    text = plain(draw_table(["name", "what"], [["a" * 10, "word " * 40], ["b" * 10, "x" * 100]], 60, (0,)))
    assert max(map(len, text.splitlines())) <= 60 and text.count("word") == 40 and text.count("x") == 100


def test_the_width_is_that_of_the_terminal():
    terminal, end = pty.openpty()
    with os.fdopen(end, "w") as stream, os.fdopen(terminal), click.Context(main) as context:
        context.meta[DATA] = stream
        termios.tcsetwinsize(end, (50, 72))
        assert terminal_width() == 72
        context.meta[DATA] = io.StringIO()
        assert terminal_width() is None


def test_list_fits_and_says_once_where_all_comes_from(bench_, monkeypatch):
    monkeypatch.setattr("bench.cli.commands.terminal_width", lambda: 60)
    _, out, _ = bench_("list", "schedule")
    out = plain(out)
    assert max(map(len, out.splitlines())) <= 60
    assert out.startswith("from robust-explanation-bench ") and out.count("robust-explanation-bench") == 1
    assert max(map(len, plain(bench_("show", "dataset:folder")[1]).splitlines())) <= 60


def test_list_tells_whole_first_sentences_without_citations(bench_):
    row = next(line for line in bench_("list", "model")[1].splitlines() if " resnet20 " in line)
    assert row.endswith("  Build the ResNet-20 of He et al. for CIFAR-10")
    row = next(line for line in bench_("list", "schedule")[1].splitlines() if " quick " in line)
    assert row.endswith("  Train small networks on `shapes` briefly")


def test_what_a_component_is_takes_a_line(bench_):
    lines = [re.split(r"  +", line, maxsplit=3)[3] for line in bench_("list")[1].splitlines()[2:]]
    assert [line for line in lines if len(line) > 80 or not line[0].isupper()] == []


def test_list_of_a_kind_on_a_terminal_leaves_the_kind_out(bench_, monkeypatch):
    monkeypatch.setattr("bench.cli.commands.terminal_width", lambda: 80)
    assert plain(bench_("list", "schedule")[1]).splitlines()[2].split() == ["name", "what"]
    assert plain(bench_("list")[1]).splitlines()[2].split() == ["kind", "name", "what"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("rps", "\nits similarity decides whether higher or lower is better; with the default, higher is\n"),
        ("center_shift", "\nlower is better, in px: "),
    ],
)
def test_show_says_what_decides_the_direction(bench_, name, sentence):
    assert sentence in bench_("show", f"metric:{name}")[1]


def test_durations_and_sizes_have_the_unit_that_people_use():
    assert [*map(describe_duration, (3, 119, 121, 7199, 7200, 5e6))] == [
        "3 s", "119 s", "2 min", "120 min", "2.0 h", "1,388.9 h"
    ]  # fmt: skip
    assert [*map(describe_size, (0, 2.5e6, 3.2e9, 4.5e12))] == ["0.0 MB", "2.5 MB", "3.2 GB", "4,500.0 GB"]


@pytest.mark.parametrize("width", [None, 80])
def test_numbers_are_aligned_at_the_right(width):
    name = "shapes-quick/" + "x" * 100
    head, _, *rows = plain(draw_table(["name", "MB"], [[name, "7.5"], ["b", "12.25"]], width, right=(1,))).splitlines()
    assert head.endswith("   MB") and rows[0].endswith("  7.5") and rows[-1].endswith("12.25")
    assert width is None or max(map(len, [head, *rows])) <= width
