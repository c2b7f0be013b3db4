"""The text form, the checks and the identity of a component."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, strategies as st

import bench
from bench.components.base import parameters
from bench.components.files import checksum, use_data_dir
from bench.components.text import read, split
from bench.errors import suggestion


@dataclass(frozen=True)
class Inner(bench.Component):
    kind = "metric"
    name = "inner"
    k: int = bench.param(3, "a number", low=1)


@dataclass(frozen=True)
class Outer(bench.Component):
    """All types of parameter at once."""

    kind = "metric"
    name = "outer"
    version = 2
    presets = {"paper": "count=7,ratio=0.5"}
    count: int = bench.param(1, "a count", low=0, high=9)
    ratio: float = bench.param(0.25, "a ratio", low=0)
    flag: bool = bench.param(False, "a flag")
    eps: Fraction = bench.param(Fraction(4, 255), "a budget")
    word: str = bench.param("", "a text")
    mode: Literal["fast", "slow"] = bench.param("fast", "a choice")
    path: Path = bench.param(Path(), "a path")
    inner: Inner = bench.param(Inner(), "a component")
    points: tuple[int, ...] = bench.param((), "numbers")
    parts: tuple[Inner, ...] = bench.param((), "components")
    other: Inner | None = bench.param(None, "a component, or none")
    limit: int | None = bench.param(5, "a limit, or none", low=1)


@dataclass(frozen=True)
class Needy(bench.Component):
    kind = "metric"
    name = "needy"
    path: Path = bench.param(help="a file")


def find(kind, name):
    known = {"inner": Inner, "outer": Outer, "needy": Needy}
    if name not in known:
        raise bench.UnknownName(f"no {kind} called {name!r}{suggestion(name, known)}")
    return known[name]


def parse(text):
    return read(text, "metric", find)


def test_defaults_are_left_out_of_the_text():
    assert str(Outer()) == "outer"
    assert str(Outer(count=2, eps=Fraction(8, 255))) == "outer:count=2,eps=8/255"


def test_a_parameter_may_be_none():
    assert (Outer().other, Outer().limit) == (None, 5)
    text = "outer:other=(inner:k=5),limit=none"
    assert str(parse(text)) == text and parse(text) == Outer(other=Inner(k=5), limit=None)
    assert parse("outer:other=none") == Outer()
    assert Outer().identity.endswith("other=none,limit=5)")


def test_nested_components_and_tuples_stand_in_parentheses():
    text = "outer:inner=(inner:k=5),points=(1,2),parts=((inner),(inner:k=2))"
    assert str(parse(text)) == text
    assert parse(text).parts == (Inner(), Inner(k=2))


def test_a_preset_is_expanded_and_can_be_changed():
    assert parse("outer:paper") == Outer(count=7, ratio=0.5)
    assert parse("outer:paper,count=2") == Outer(count=2, ratio=0.5)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=12)


@given(
    st.builds(
        Outer,
        count=st.integers(0, 9),
        ratio=st.floats(0, 1e300, allow_nan=False),
        flag=st.booleans(),
        eps=st.fractions(),
        word=texts,
        mode=st.sampled_from(["fast", "slow"]),
        path=texts.map(Path),
        inner=st.builds(Inner, k=st.integers(1, 10**12)),
        points=st.lists(st.integers(), max_size=3).map(tuple),
        parts=st.lists(st.builds(Inner, k=st.integers(1, 9)), max_size=2).map(tuple),
        other=st.none() | st.builds(Inner, k=st.integers(1, 9)),
        limit=st.none() | st.integers(1, 9),
    )
)
def test_text_reads_back_as_the_same_component(component):
    assert parse(str(component)) == component


def test_identity_holds_every_parameter_and_the_version():
    assert Inner().identity == "metric/inner@1(k=3)"
    assert Outer().identity.startswith("metric/outer@2(count=1,ratio=0.25,flag=false,eps=4/255,")
    assert "inner=(metric/inner@1(k=3))" in Outer().identity


@dataclass(frozen=True)
class Grown(bench.Component):
    kind = "metric"
    name = "inner"
    k: int = bench.param(3, "a number", low=1)
    power: float = bench.param(2.0, "an exponent", added=True)


def test_an_added_parameter_stands_in_the_identity_unless_it_has_its_default():
    assert Grown().identity == Inner().identity
    assert Grown(k=4, power=2).identity == Inner(k=4).identity
    assert Grown(power=1.0).identity == "metric/inner@1(k=3,power=1.0)"


def test_a_path_enters_the_identity_by_its_content(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("weights")
    second.write_text("weights")
    assert Needy(first).identity == Needy(second).identity
    assert str(tmp_path) not in Needy(first).identity
    second.write_text("other weights")
    assert Needy(first).identity != Needy(second).identity


def test_a_folder_is_known_by_its_names_and_contents(tmp_path):
    (tmp_path / "x").write_text("1")
    before = checksum(tmp_path)
    (tmp_path / "x").rename(tmp_path / "y")
    assert checksum(tmp_path) != before


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(bench.EnvironmentProblem, match=r"nowhere cannot be read \(No such file"):
        assert Needy(tmp_path / "nowhere").identity


def test_whole_numbers_stand_for_floats_and_fractions():
    assert Outer(ratio=1).identity == Outer(ratio=1.0).identity
    assert Outer(eps=0).eps == Fraction(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("outr", r"no metric called 'outr'; did you mean 'outer'\?"),
        ("outer:cout=1", r"metric outer has no parameter 'cout'; did you mean 'count'\?"),
        ("outer:count=x", r"metric outer: count is 'x', must be a whole number from 0 to 9"),
        ("outer:count=1.5", r"count is '1.5', must be a whole number"),
        ("outer:count=10", r"count is 10, must be a whole number from 0 to 9"),
        ("outer:ratio=-1", r"ratio is -1.0, must be a number of at least 0"),
        ("outer:ratio=nan", r"ratio is nan, must be a number"),
        ("outer:ratio=inf", r"ratio is inf, must be a number"),
        ("outer:flag=maybe", r"flag is 'maybe', must be true or false"),
        ("outer:eps=8/0", r"eps is '8/0', must be a fraction such as 8/255"),
        ("outer:mode=medium", r"mode is 'medium', must be 'fast' or 'slow'"),
        ("outer:points=(1,x)", r"points is '\(1,x\)', must be a tuple of a whole number"),
        ("outer:limit=many", r"limit is 'many', must be a whole number of at least 1 or none"),
        ("outer:limit=0", r"limit is 0, must be a whole number of at least 1 or none"),
        ("outer:other=(iner)", r"no metric called 'iner'; did you mean"),
        ("outer:inner=(inner:k=0)", r"metric inner: k is 0, must be a whole number of at least 1"),
        ("outer:inner=(iner)", r"no metric called 'iner'; did you mean"),
        ("outer:count", r"'count' is not of the form parameter=value or a preset \(paper\)"),
        ("outer:", r"'outer:' ends after the colon; write outer or outer:parameter=value"),
        ("outer:points=(1", r"a parenthesis is not closed or not opened"),
        ("outer:points=1)", r"a parenthesis is not closed or not opened"),
        ('outer:word="a', r"a quote is not closed or not opened"),
        ("needy", r"metric needy needs path: write needy:path=\.\.\."),
    ],
)
def test_a_bad_text_is_named_with_the_way_out(text, message):
    with pytest.raises(bench.BenchError, match=message):
        parse(text)


@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_a_wrong_type_from_python_is_refused(value):
    with pytest.raises(bench.BadValue, match=r"count is .*, must be a whole number from 0 to 9"):
        Outer(count=value)


def test_a_list_serves_as_a_tuple_and_a_text_as_a_path():
    assert Outer(points=[1, 2]).points == (1, 2)
    assert Outer(path="x").path == Path("x")


def test_split_heeds_quotes_and_parentheses():
    assert split('a=(b,c),d="e,\\"f",g') == ["a=(b,c)", 'd="e,\\"f"', "g"]


def test_help_and_range_may_be_declared_on_the_kind():
    declared = parameters(type(bench.component("schedule", "quick")))
    assert declared["batch"].help == "images in a step" and declared["batch"].low == 1


def test_a_default_factory_is_refused():
    import dataclasses

    @dataclass(frozen=True)
    class Factory(bench.Component):
        kind, name = "metric", "factory"
        values: tuple[int, ...] = dataclasses.field(default_factory=tuple)

    with pytest.raises(bench.PluginError, match=r"Factory.values: give a default"):
        Factory()


def test_a_bibtex_key_has_no_accents():
    paper = bench.Paper("Àla Carte Maps", "Moritz Böhle and Ada Lovelace", "Conf", 2022)
    assert paper.bibtex.startswith("@inproceedings{bohle2022ala,\n  title = {Àla Carte Maps},")


def test_bibtex_is_made_from_the_paper():
    paper = bench.Paper("Deep Maps", "Ada Lovelace and Alan Turing", "Conf", 2024, "https://example.org")
    assert paper.bibtex.startswith("@inproceedings{lovelace2024deep,\n  title = {Deep Maps},")


def test_equal_components_have_one_identity():
    first, second = bench.component("schedule", "quick:weight_decay=-0.0"), bench.component("schedule", "quick")
    assert first == second and first.identity == second.identity
    with pytest.raises(bench.BadValue, match=r"noise is .*, must be a number of at least 0"):
        type(bench.component("explainer", "smoothgrad"))(noise=10**400)


def test_a_path_that_is_not_here_is_looked_for_in_the_data_folder(tmp_path, monkeypatch):
    here, data = tmp_path / "here", tmp_path / "data"
    for place in (here, data / "nets"):
        place.mkdir(parents=True)
    (data / "nets" / "a.pt").write_bytes(b"theirs")
    monkeypatch.chdir(here)
    with use_data_dir(data):
        found = bench.component("defense", "weights:path=nets/a.pt")
        assert found.path == data / "nets" / "a.pt" and bench.component("defense", str(found)) == found
        (here / "nets").mkdir()
        (here / "nets" / "a.pt").write_bytes(b"mine")
        assert bench.component("defense", "weights:path=nets/a.pt").path == Path("nets/a.pt")
        assert bench.component("defense", "weights:path=nets/b.pt").path == Path("nets/b.pt")
    assert found.published.startswith("weights:path=a.pt#")


def test_a_published_path_leads_to_the_file_of_its_name_and_content(tmp_path):
    (tmp_path / "nets").mkdir()
    for place, content in ((tmp_path, b"theirs"), (tmp_path / "nets", b"mine")):
        (place / "a.pt").write_bytes(content)
    with use_data_dir(tmp_path):
        mine = bench.component("defense", "weights:path=nets/a.pt")
        found = bench.component("defense", mine.published)
        assert (found.path, found.identity) == (tmp_path / "nets" / "a.pt", mine.identity)
        for folder in (".", ".."):  # which a submission could have walked and hashed
            text = f"weights:path={folder}#{checksum(tmp_path / 'nets' / folder)}"
            assert not bench.component("defense", text).path.exists()
        text = mine.published
        (tmp_path / "nets" / "a.pt").write_bytes(b"another")
        assert not bench.component("defense", text).path.exists()
        assert not bench.component("defense", "weights:path=a.pt#0123456789abcdef").path.exists()


def test_a_subclass_gives_another_default_by_assignment_alone():
    @dataclass(frozen=True)
    class Brief(bench.Schedule):
        name = "brief"
        epochs = 2
        batch = 4
        optimiser = "sgd"
        rate = 1
        weight_decay = 0.0
        decay = ()
        augmentation = "none"
        clipping = 0.0
        limit = 0

    assert [*parameters(Brief)] == [*parameters(bench.Schedule)]
    assert parameters(Brief)["epochs"].help == parameters(bench.Schedule)["epochs"].help
    assert (Brief(epochs=3).epochs, Brief().batch, str(Brief(epochs=3))) == (3, 4, "brief:epochs=3")
    assert Brief().identity.startswith("schedule/brief@1(epochs=2,batch=4,optimiser=sgd,rate=1.0,")
    with pytest.raises(bench.BadValue, match="schedule brief: batch is 0, must be a whole number of at least 1"):
        Brief(batch=0)
