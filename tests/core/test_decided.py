"""What a board decides, and no submission can say: columns, identities, values that can be, rows of others, names."""

from __future__ import annotations

import contextlib
import json
import math

import numpy as np
import pytest
import torch
from submissions import BASE, KINDS, PROTOCOL, UNDER, made, publish, submit

from bench.boards.board import Column, read_board
from bench.boards.render.site import render_board
from bench.boards.statistics import find_impossible
from bench.boards.submissions.flags import OF_ATTACK, OF_IMAGES, OF_MAPS, is_raised
from bench.boards.submissions.identities import Components
from bench.boards.submissions.validate import validate
from bench.engine.checks import flag_attack, flag_maps
from bench.errors import BadValue, EnvironmentProblem
from bench.keys import read_canonical

KEPT = np.array([True, False, True])
VALUES = (0.5, 1.0, 0.75)
ATTACKED = {**BASE, **UNDER}


def under(defense="l2", **axes):
    return {**ATTACKED, "defense": defense, **axes}


def overlap(axes=ATTACKED, values=VALUES, metric="topk_overlap", **options):
    return made(metric, axes, values, **{"kept": KEPT, "grain": 0.05, **options})


def passes(defense="l2", values=(7.0,), **options):
    axes = {axis: BASE[axis] for axis in ("dataset", "model", "schedule", "seed")} | {"defense": defense}
    fields = {"unit": "passes", "better": "lower", "range": (0.0, None), "grain": 1.0, **options}
    return made("train_passes", axes, values, images=(-1,), **fields)


def curve(defense="l2", names=("0%", "50%"), **options):
    axes = {axis: text for axis, text in under(defense).items() if axis not in ("surrogate", "attack", "ball")}
    return made("insertion", axes, [(0.1, 0.9)] * 3, names=names, **options)


def rate(defense="l2", **options):
    axes = {axis: text for axis, text in under(defense).items() if axis != "explainer"}
    return made("kept_rate", axes, KEPT, **{"kept": KEPT, "grain": 1.0, **options})


FOLLOWED = {"objective": {"before": 1.0, "after": 0.5, "success": 1.0}}


@pytest.fixture
def board(tmp_path):
    """A board of a suite with one row and all sorts of metrics."""
    folder = tmp_path / "board"
    folder.mkdir()
    text = PROTOCOL.replace('"topk_overlap"]', '"topk_overlap", "insertion", "kept_rate", "train_passes"]')
    (folder / "board.toml").write_text(
        text.replace('["topk"]', '["topk", "noise"]').replace("seed = [0]", "seed = [0, 1]")
    )
    note = {"provenance": {"device": "CPU", "data": "drawn", "papers": {"dataset shapes": "@a{b}"}}}
    entries = [
        overlap(under("ce"), **FOLLOWED, **note),
        overlap(under("ce", attack="noise")),
        rate("ce", **FOLLOWED),
        passes("ce"),
        curve("ce"),
        made("accuracy", {**BASE, "defense": "ce", "samples": "3"}, (1.0, 0.0, 1.0), grain=1.0),
    ]
    publish(folder, "suite", entries)
    return folder


def send(folder, *entries, name="acme"):
    """What validation says of a submission."""
    publish(folder, name, entries)
    return validate(folder)


def test_a_row_of_ones_own_in_the_suites_columns_is_taken(board):
    assert send(board, overlap(**FOLLOWED), overlap(under(attack="noise")), rate(**FOLLOWED), passes(), curve()) == []
    assert send(board, overlap(under("mine:rate=0.5"), **FOLLOWED), name="other") == []
    assert {row.axes["defense"] for row in read_board(board).rows} == {"ce", "l2", "mine:rate=0.5"}


@pytest.mark.parametrize("axis", list(ATTACKED))
def test_a_record_has_all_axes_of_its_metric(board, axis):
    """One without a defense would belong to every row."""
    fewer = {other: text for other, text in ATTACKED.items() if other != axis}
    (line,) = send(board, overlap(fewer, **FOLLOWED))
    assert f"acme.jsonl, line 1: axes lack {axis}, but those of topk_overlap are attack, ball, dataset" in line


def test_a_record_has_no_other_axis(board):
    (line,) = send(board, passes(), made("accuracy", {**ATTACKED}, VALUES, kept=KEPT, grain=1.0))
    assert "axes have attack, ball, explainer, surrogate, target, but those of accuracy are dataset" in line


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (overlap(spec={"schedule": "schedule/quick@1(epochs=100000)"}), "but 'schedule/quick@1()' in"),
        (
            overlap(spec={"attack": "attack/topk@1(steps=0)"}),
            "spec has the attack 'attack/topk@1(steps=0)', but 'attack",
        ),
        (overlap(spec={"model": "model/lenet@2()"}), "spec has the model 'model/lenet@2()', but 'model/lenet@1()' in"),
        (overlap(spec={"surrogate": "explainer/gradient@1(x=1)"}), "spec has the surrogate"),
        (
            overlap(spec={"made": "record@3/metric/topk_overlap@99(k=3072)"}),
            "spec says 'record@3/metric/topk_overlap@99(k=3072)', but 'record@3/metric/topk_overlap@1()' in",
        ),
        (overlap(spec={"versions": {"network": 2}}), "spec has version 2 of network, but the suite has 1"),
        (overlap(spec={"versions": {"network": 1, "x": 1}}), "spec has version 1 of x, but the suite has None"),
        (overlap(spec={"versions": {}}), "spec has version None of network, but the suite has 1"),
        (overlap(under("ce:")), "axis defense is 'ce:', but spec says 'defense/ce@1()' ('ce:' is not of the form"),
        (overlap(under("l2: rate=1")), "axis defense is 'l2: rate=1'"),
        (overlap(under("l2:rate=1.50")), "('rate=1.50' is not written as the suite writes it)"),
        (overlap(under('l2:note="x"')), "is not written as the suite writes it"),
        (overlap(under("l2:a=1,a=2")), "is not of the form PARAMETER=VALUE, each parameter once"),
        (overlap(under("l2:a=1"), spec={"defense": "defense/l2@1(a=2)"}), "('1' is not '2')"),
        (
            overlap(under("l2:b=1,a=1"), spec={"defense": "defense/l2@1(a=1,b=1)"}),
            "unknown parameters, or known ones in",
        ),
        (overlap(under("l2:c=1"), spec={"defense": "defense/l2@1(a=1)"}), "unknown parameters"),
        (overlap(under("l\u0435")), "axes.defense is 'l\u0435', must be in ASCII; rename what it names"),
        (
            overlap(under("ce", attack="topk:steps=9"), spec={"attack": "attack/topk@1(steps=9,more=1)"}),
            "the suite has topk@1(); run it with the suite's",
        ),
        (overlap(under("l2", explainer="lrp"), flags=()), "flags are [], but a surrogate was followed"),
        (overlap(under("l2", surrogate="lrp")), "axis surrogate is 'lrp', but the board has gradient"),
    ],
)
def test_an_identity_is_the_suites_or_agrees_with_its_text(board, entry, words):
    (line,) = send(board, ({**entry[0], **FOLLOWED}, entry[1]))
    assert words in line, line


def test_what_the_suite_leaves_out_is_the_default(board):
    """Of a component that the suite has, a text that leaves a parameter out means what the suite's means."""
    suite = {"defense": "defense/ce@1(rate=0.5,steps=3)"}
    publish(board, "suite", [overlap(under("ce"), spec=suite, **FOLLOWED)])
    for text, identity, words in (
        ("ce:steps=4", "defense/ce@1(rate=0.5,steps=4)", None),
        ("ce:steps=4", "defense/ce@1(rate=9.0,steps=4)", "but ce without rate has rate=0.5"),
        ("ce:rate=0.5,steps=4", "defense/ce@1(rate=0.5,steps=4)", "but ce without rate has rate=0.5"),
        ("ce:steps=4", "defense/ce@1(rate=0.5,steps=4,more=1)", "but the suite has ce@1(rate, steps)"),
        ("ce:more=1", "defense/ce@1(rate=0.5,steps=3,more=1)", None),
        ("ce:more=1", "defense/ce@1(steps=3,more=1)", "but the suite has ce@1(rate, steps)"),
        ("mine:like=(ce)", "defense/mine@1(like=(defense/ce@1(rate=0.5,steps=3)))", None),
        ("mine:like=(ce)", "defense/mine@1(like=(defense/ce@1(rate=0.5,steps=9)))", "ce without steps has steps=3"),
        ("mine:like=(ce:steps=9)", "defense/mine@1(like=(defense/ce@1(rate=0.5,steps=8)))", "but spec says"),
        ("mine:like=ce", "defense/mine@1(like=(defense/ce@1(rate=0.5,steps=3)))", "but spec says"),
    ):
        lines = send(board, overlap(under(text), spec={"defense": identity}, **FOLLOWED))
        assert (lines == []) if words is None else (len(lines) == 1 and words in lines[0]), (text, identity, lines)


@pytest.mark.parametrize("texts", [("ce", "ce:power=1"), ("ce:power=1", "ce")])
def test_an_added_parameter_stands_in_an_identity_where_the_text_gives_it(texts):
    identities = {"ce": "defense/ce@1(rate=0.5)", "ce:power=1": "defense/ce@1(rate=0.5,power=1)"}
    components = Components()
    components.learn("defense", texts[0], identities[texts[0]])
    for text in texts:
        assert components.find_problem("defense", text, identities[text]) == ""
    problem = components.find_problem("defense", "ce", "defense/ce@1(rate=0.5,more=1)")
    assert problem.startswith("the suite has ce@1(rate")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (overlap(values=(50, 1, 0.75), range=(0.0, 100.0)), "range is (0.0, 100.0), but (0.0, 1.0) in"),
        (overlap(values=(-3, 1, 3)), "an image has the value -3, but topk_overlap goes from 0 to 1, in steps of 0.05"),
        (overlap(values=(0.9876, 1, 1)), "an image has the value 0.9876, but topk_overlap goes from 0 to 1, in steps"),
        (overlap(grain=None), "grain is None, but 0.05 in"),
        (passes(values=(0.0,)), "its value is not above zero, as a cost in passes is"),
        (passes(values=(7.5,)), "an image has the value 7.5, but train_passes goes from 0 to inf, in steps of 1"),
        (passes(better="higher"), "better is 'higher', but 'lower' in"),
        (passes(unit=""), "unit is '', but 'passes' in"),
        (overlap(help="what I say"), "help is 'what I say', but 'what topk_overlap is' in"),
        (overlap(paper=""), "paper is '', but"),
        (overlap(values=(1, 1), kept=KEPT[:2], images=(3, 8)), "measured on other images than"),
        (overlap(images=(3, 8, -1)), "measured on other images than"),
        (overlap(images=(8, 3, 5)), "measured on other images than"),
        (overlap(values=(1.0,), kept=KEPT[:1], images=(-1,)), "measured on other images than"),
        (curve(names=("0%", "100%")), "levels are ['0%', '100%'], but ['0%', '50%'] in"),
        (overlap(kept=None), "kept is missing, unlike in"),
        (curve(kept=KEPT), "kept is given, unlike in"),
        (overlap(cost={"mine": 1.0}), "cost has mine, must have trained"),
        (overlap(undefined_because="no reason"), "undefined_because is 'no reason', but it has values"),
        (overlap(objective={}), "objective is {}, unlike the suite's under topk"),
        (curve(**FOLLOWED), "unlike the suite's under no attack"),
        (overlap(objective={"before": 1.0}), "objective is {'before': 1.0}, must have before, after and a success"),
        (overlap(objective={"before": 1.0, "after": 0.5, "success": 2.0}), "a success from 0 to 1"),
        (overlap(flags=("best of all",)), "flags has 'best of all', which the suite does not raise here"),
        (curve(flags=("nothing moved",)), "flags has 'nothing moved', which the suite does not raise here"),
        (overlap(flags=("transfer: the attack followed gradient",)), "but no surrogate was followed"),
        (
            overlap(provenance={"data": "best set"}),
            "provenance.data is 'best set', but the suite says 'drawn' of the set",
        ),
        (
            overlap(provenance={"papers": {"dataset shapes": "@a{c}"}}),
            "provenance.papers.dataset shapes is '@a{c}', but",
        ),
    ],
)
def test_a_value_and_what_is_said_of_it_can_be(board, entry, words):
    fields = {} if "objective" in words or "success" in words or "attack" not in entry[0]["axes"] else FOLLOWED
    (line,) = send(board, ({**entry[0], **fields}, entry[1]))
    assert words in line, line


def test_a_transfer_says_so(board):
    (line,) = send(board, overlap(under(explainer="mine"), **FOLLOWED))
    assert "flags are [], but a surrogate was followed" in line
    flags = ("transfer: the attack followed gradient", "no map: it is zero on 7% of the clean images")
    assert send(board, overlap(under(explainer="mine"), flags=flags, **FOLLOWED)) == []


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ((rate(**FOLLOWED), overlap(kept=~KEPT, **FOLLOWED)), "kept predictions are not those of"),
        (
            (rate(**FOLLOWED), overlap(objective={"before": 1.0, "after": 0.1, "success": 1.0})),
            "objectives are not those",
        ),
        (
            (rate(flags=("nothing moved",), **FOLLOWED), overlap(**FOLLOWED)),
            "flags of the attacked images are not those of",
        ),
        (
            (
                overlap(flags=("no map: it is zero on 7% of the clean images",), **FOLLOWED),
                overlap(under(attack="noise")),
            ),
            "flags of the maps are not those of",
        ),
    ],
)
def test_records_of_the_same_images_or_maps_agree(board, entries, words):
    (line,) = send(board, *entries)
    assert words in line, line


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            overlap(under(ball="linf:1/2"), **FOLLOWED),
            "the suite has no topk_overlap under topk at linf:1/2 on this board",
        ),
        (rate(), None),
        (made("insertion", ATTACKED, VALUES, kept=KEPT), "axes have attack, ball, surrogate, but those of insertion"),
    ],
)
def test_columns_are_the_suites(board, entry, words):
    if words is None:
        entry = ({**entry[0], **FOLLOWED}, entry[1])
    lines = send(board, entry)
    assert (lines == []) if words is None else (len(lines) == 1 and words in lines[0]), lines


def test_a_column_that_the_suite_has_not_measured_is_nobodys(board):
    """A first record under the score's attack would take all other rows' ranks."""
    text = (board / "board.toml").read_text()
    (board / "board.toml").write_text(text.replace('["topk", "noise"]', '["topk", "noise", "strong"]'))
    (line,) = send(board, overlap(under(attack="strong")))
    assert "the suite has no topk_overlap under strong at linf:8/255 on this board, and others add rows alone" in line


@pytest.mark.parametrize(
    "entry",
    [
        overlap(under("ce", seed="1"), **FOLLOWED),
        overlap(under("ce", attack="noise", seed="1")),
        made("accuracy", {**BASE, "defense": "ce", "samples": "3", "seed": "1"}, (1.0, 1.0, 1.0), grain=1.0),
    ],
)
def test_a_row_of_another_stays_as_it_is(board, entry):
    (line,) = send(board, entry)
    assert "it would change a row of suite (defense ce, explainer gradient); leave it out, or supersede that" in line


def test_an_attack_of_ones_own_may_be_shown_on_anybodys_row(board):
    assert send(board, overlap(under("ce", attack="own"), **FOLLOWED)) == []


def test_without_the_suites_records_nothing_is_compared(board):
    for file in (board / "records").glob("suite.*"):
        file.unlink()
    (line,) = send(board, overlap(**FOLLOWED))
    assert "records has no suite.jsonl to compare acme with; publish that first" in line


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("mine:k=10", "mine:k=1o", "axis defense is 'mine:k=1o', which looks like 'mine:k=10' in"),
        ("mine:note=rnd", "mine:note=md", "which looks like 'mine:note=rnd' in"),
        ('mine:note="a b"', 'mine:note="a  b"', "which looks like"),
        ("mine:flag=true", "mine:flag=True", "which looks like"),
    ],
)
def test_names_that_look_alike_are_one(board, first, second, words):
    publish(board, "first", [overlap(under(first), **FOLLOWED)])
    assert validate(board) == []
    (line,) = send(board, overlap(under(second), **FOLLOWED), name="second")
    assert words in line, line


def test_a_text_has_one_identity_and_an_identity_one_text(board):
    publish(board, "first", [overlap(under("mine"), spec={"defense": "defense/mine@1(a=1)"}, **FOLLOWED)])
    again = overlap(under("mine:a=1"), spec={"defense": "defense/mine@1(a=1)"}, **FOLLOWED)
    (line,) = send(board, again, name="second")
    assert "axis defense is 'mine:a=1', which is the same as 'mine' in" in line
    other = overlap(under("mine", attack="noise"), spec={"defense": "defense/mine@1(a=2)"})
    (line,) = send(board, other, name="second")
    assert "axis defense is 'mine', which has the identity 'defense/mine@1(a=1)' in" in line


def test_submissions_that_look_alike_are_one(board):
    (line,) = send(board, overlap(**FOLLOWED), name="su1te")
    assert "'su1te' looks like 'suite'; publish under another name" in line


def test_a_default_in_a_protocol_is_left_out(board):
    suite = {"attack": "attack/topk@1(k=20)"}
    publish(board, "suite", [overlap(under("ce"), spec=suite, **FOLLOWED)])
    assert validate(board) == []
    text = (board / "board.toml").read_text()
    (board / "board.toml").write_text(text.replace('["topk", ', '["topk", "topk:k=20", '))
    (line,) = validate(board)
    assert "board.toml: axes.attack has 'topk:k=20', but k=20 is the default; leave it out" in line


@pytest.mark.parametrize(
    "address", ["https://evil.example/x", "www.evil.example", "who@evil.example", "xmpp:who@evil", "ftp://e.example|y"]
)
def test_an_address_in_a_parameter_is_no_link(board, address):
    written = json.dumps(address) if set(address) & set(",()=") else address
    assert send(board, overlap(under(f"mine:at={written}"), **FOLLOWED)) == []
    files = render_board(read_board(board))
    for word in (part for part in address.split("|") if "." in part or "@" in part):
        for line in files["README.md"].splitlines():
            assert word not in line or f"{word}`" in line.replace(f"at={word}", word), line
    assert f'href="{address}' not in files["index.html"]


def test_submit_still_makes_what_is_valid(tiny):
    submit(tiny, "more", both={"defense": "other"})
    assert validate(tiny) == []


def test_a_row_without_accuracy_is_not_ranked(board):
    """The metric of usefulness is needed, and whatever else `needs` names."""
    text = (board / "board.toml").read_text()
    score = '[score]\nmetric = "topk_overlap"\nattack = "topk"\nnoise = "noise"\nagainst = "accuracy"\n'
    (board / "board.toml").write_text(text.replace("seed = [0, 1]", "seed = [0]") + score)
    accuracy = made("accuracy", {**BASE, "samples": "3"}, (1.0, 0.0, 1.0), grain=1.0)
    rows = [overlap(**FOLLOWED), overlap(under(attack="noise"))]
    for entries, missing in ((rows, "no accuracy"), ([*rows, accuracy], "")):
        assert send(board, *entries) == []
        assert {row.axes["defense"]: row.missing for row in read_board(board).rows} == {"ce": "", "l2": missing}
    text = (board / "board.toml").read_text()
    (board / "board.toml").write_text(text + 'needs = ["train_passes"]\n')
    assert {row.axes["defense"]: row.missing for row in read_board(board).rows} == {"ce": "", "l2": "no train_passes"}
    (board / "board.toml").write_text(text + 'needs = ["passes"]\n')
    (line,) = [line for line in validate(board) if "score" in line]
    assert "board.toml: score.needs is 'passes', must be one of accuracy, topk_overlap, insertion" in line


def test_every_component_says_the_same_in_text_and_identity(catalog):
    """The texts that the suite writes are canonical, and agree with its identities."""
    components = Components()
    for kind in KINDS.values():
        for name, cls in catalog.of(kind).items():
            for example in cls.examples:
                found = catalog.read(kind, f"{name}:{example}" if example else name)
                with contextlib.suppress(EnvironmentProblem):  # a data set whose files are not here
                    components.learn(kind, str(found), found.identity)
                    assert components.find_problem(kind, str(found), found.identity) == "", str(found)
                    assert components.find_default(kind, str(found)) == "", str(found)
    assert len(components.forms) > 100


WRITTEN = ["a", "a:b=1", "a:b=1,c=x/y.pt", "a:b=()", "a:b=0.1,c=1e-05,d=8/255", "a:b=true", "a:b=(1,2)", "a:b=(c:d=1)"]
WRITTEN += ['a:b="c d"', 'a:b=""', "a:b=-3"]
NOT_WRITTEN = [
    "",
    ":b=1",
    "a:",
    "a:b",
    "a:b=",
    "a:b=1,",
    "a:b=01",
    "a:b=+1",
    "a:b=.5",
    "a:b=1.50",
    "a:b=1e-5",
    "a:b=2/4",
]
NOT_WRITTEN += ["a:b=1/0", 'a:b="c"', "a:b=(1, 2)", "a:b=(c:d=1.0,d=2)", "a: b=1", "a :b=1", "A", "a:b=(", "a:b=-0"]
NOT_WRITTEN += ["a:b=" + "(" * 60 + ")" * 60, "a:b=" + "9" * 5000, "a:b=1e999999"]


@pytest.mark.parametrize("text", [*WRITTEN, *NOT_WRITTEN])
def test_a_text_is_written_in_one_way(text):
    with contextlib.nullcontext() if text in WRITTEN else pytest.raises(BadValue):
        read_canonical(text)


def test_flags_are_those_that_the_suite_raises():
    """The forms of flags follow those that checks write, whatever their figures."""
    draw = torch.Generator().manual_seed(0)
    raised, of_maps = set(), ("others", "swapped", "class_mates", "class", "weight")
    for size in [0.0, 1e-6, 1.0, math.nan, math.inf] * 20:
        names = ("left", "doubled", "larger", "wide", "blind", "predicted", "actual")
        figures = {name: torch.rand(2, 8, generator=draw, dtype=torch.float64).prod(0) * size for name in names}
        marks = {name: torch.rand(8, generator=draw) < 0.5 for name in ("flat", "lost", "blank")}
        raised |= set(flag_attack({**figures, **marks}, 0.05))
        maps = {name: torch.rand(1, generator=draw) * size for name in of_maps}
        raised |= set(flag_maps({**maps, **marks}))
    heads = {flag.partition(":")[0] for flag in raised}
    assert len(heads) == 12 and all(map(is_raised, raised)), raised
    found = (OF_IMAGES, OF_MAPS, OF_ATTACK)
    assert all(sum(form.fullmatch(flag) is not None for form in found) == 1 for flag in raised)
    assert not any(map(is_raised, ("", "best", "nothing moved!", "no map: it is zero on x% of the clean images")))


def test_undefined_images_count_against_the_accuracy_that_a_row_needs(board):
    """Images that are left out where they are wrong would make the rest right."""
    text = (board / "board.toml").read_text().replace("seed = [0, 1]", "seed = [0]")
    (board / "board.toml").write_text(
        text + '[score]\nmetric = "topk_overlap"\nattack = "topk"\nagainst = "accuracy"\n'
    )
    accuracy = made("accuracy", {**BASE, "samples": "3"}, (1.0, math.nan, math.nan), grain=1.0)
    assert send(board, overlap(**FOLLOWED), overlap(under(attack="noise")), accuracy) == []
    row = next(row for row in read_board(board).rows if row.axes["defense"] == "l2")
    found = row.estimates[Column("accuracy", "", "")]
    assert (found.value, found.lost) == (pytest.approx(1 / 3), 2) and row.rank
    assert "0.333 [" in render_board(read_board(board))["README.md"]


@pytest.mark.parametrize(
    ("text", "grain"),
    [
        ("accuracy", 1.0),
        ("topk_overlap", 1 / 20),
        ("topk_overlap:k=5", 1 / 5),
        ("self_similarity:similarity=(topk_overlap:k=8)", 1 / 8),
        ("data_dependence:similarity=(topk_overlap)", 1 / 20),
        ("randomization:similarity=(topk_overlap:k=4)", 1 / 4),
        ("rps:similarity=(topk_overlap:k=10),draws=3", 1 / 30),
        ("rps", None),
        ("data_dependence", None),
        ("spearman", None),
    ],
)
def test_a_metric_that_counts_has_a_grain(catalog, text, grain):
    found = catalog.read("metric", text).grain
    assert found == grain if grain is None else found == pytest.approx(grain)


def test_a_value_is_on_its_grain_but_for_rounding():
    for values, bounds, grain, found in (
        ([0.15, 0.1 + 0.2], (0.0, 1.0), 0.05, None),
        ([0.15, 0.16], (0.0, 1.0), 0.05, 0.16),
        ([math.nan, 1.0000001], (0.0, 1.0), None, None),
        ([math.nan, 1.1], (None, 1.0), None, 1.1),
        ([-1e9], (None, None), 1.0, None),
        ([-0.5], (0.0, None), 0.5, -0.5),
    ):
        assert find_impossible(np.array(values), bounds, grain) == found
