"""Records to tables."""

from __future__ import annotations

from bench.boards.record import Record
from bench.boards.render.terminal import format_score, format_table

BLANK = Record(
    metric="m",
    axes={"defense": "ce", "attack": "topk"},
    value=0.5,
    value_kept=None,
    n=4,
    kept=None,
    undefined=0,
    ci95=(0.25, 0.75),
    levels={},
    better="higher",
    unit="",
    help="",
    cost={},
    flags=(),
    paper="",
    command="",
    key="1",
    spec="",
    provenance={"device": "CPU, 2 threads"},
)


def other(**changes):
    import dataclasses

    return dataclasses.replace(BLANK, **changes)


def test_a_value_is_shown_with_its_interval():
    assert format_score(BLANK) == "0.500 [0.25, 0.75]"
    assert format_score(other(value=12.34, unit="s", ci95=None)) == "12.3 s"
    assert format_score(other(value=None, ci95=None)) == "undefined"
    assert format_score(other(flags=("nothing moved",))).endswith(" *")


def test_what_all_rows_share_stands_above_the_table():
    axes = {"dataset": "shapes", "defense": "ce", "attack": "topk", "seed": "0"}
    text = format_table([(axes, {"m": BLANK}), ({**axes, "seed": "1"}, {})], ["m"])
    lines = text.splitlines()
    assert lines[0] == "dataset shapes"
    assert lines[2].split() == ["defense", "seed", "attack", "m"]
    assert lines[4].split() == ["ce", "0", "topk", "0.500", "[0.25,", "0.75]"]
    assert lines[5].split() == ["ce", "1", "topk", "-"]
    assert lines[-1] == "Computed on CPU, 2 threads."


def test_what_needs_a_word_has_one_below():
    record = other(undefined=2, flags=("nothing moved",), undefined_because="no labels")
    text = format_table([(record.axes, {"m": record})], ["m"])
    assert "* undefined for 2 of 4 images, which the mean leaves out: m of ce topk\n" in text
    assert "* nothing moved: m of ce topk\n" in text and "\nno labels: m of ce topk\n" in text
    many = [({**record.axes, "seed": str(i)}, {"m": other(key=str(i), flags=("odd",))}) for i in range(5)]
    assert "* odd: m of ce topk, m of ce topk, m of ce topk and 2 more\n" in format_table(many, ["m"])


def test_names_cannot_break_the_table():
    axes = {"defense": "a\nb\x1b[31m", "attack": "topk"}
    lines = format_table([(axes, {"m\n": BLANK})], ["m\n"]).splitlines()
    assert lines[4].startswith("a b [31m") and "\x1b" not in "".join(lines)


def test_numbers_in_names_stay_as_they_are():
    text = format_table([({"defense": "1e3", "attack": "007"}, {"m": BLANK})], ["m"])
    assert text.splitlines()[4].split()[:2] == ["1e3", "007"]
