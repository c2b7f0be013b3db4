"""What is installed, and what is wrong with it."""

from __future__ import annotations

import sys

import pytest

import bench
from bench.components.base import parameters
from bench.components.kinds import KINDS
from bench.engine import catalog as catalogs

GOOD = """
from dataclasses import dataclass
import bench

@dataclass(frozen=True)
class Corner(bench.Explainer):
    '''Ranks pixels by their distance to the corner.'''
    name = "corner"
    def attribute(self, network, images, targets):
        return images

@bench.hookimpl
def bench_components():
    return [Corner]
"""


def problems(catalog):
    return [plugin.problem for plugin in catalog.broken]


def test_built_ins_come_by_entry_points_like_all_others(catalog):
    assert {p.distribution for p in catalog.plugins} == {"robust-explanation-bench"} and not catalog.broken
    assert all(catalog.of(kind) for kind in KINDS)


def test_a_strangers_component_stands_beside_ours(install):
    install("acme", {"acme_plugin": GOOD})
    catalog = catalogs.load()
    assert not catalog.broken
    assert str(catalog.read("explainer", "corner")) == "corner"
    assert catalog.sources[catalog.find("explainer", "corner")].distribution == "acme"


BROKEN = {
    "import error": (
        "import nothing_of_this_name",
        r"plugin 'acme_plugin' of acme does not import \(ModuleNotFoundError: No module named 'nothing_of_this_name', "
        r"acme_plugin.py:1\); fix it, or continue with --without acme",
    ),
    "exit": ("raise SystemExit(3)", r"does not import \(SystemExit: 3, acme_plugin.py:1\)"),
    "no hook": (
        GOOD.replace("@bench.hookimpl\n", ""),
        r"implements no hook; is @bench.hookimpl missing above bench_components\?; fix it, or continue with --without",
    ),
    "misspelt": (
        GOOD.replace("def bench_components", "def bench_component"),
        r"implements a hook 'bench_component' that does not exist; did you mean 'bench_components'",
    ),
    "wrong arguments": (
        GOOD + "\n@bench.hookimpl\ndef bench_recorded(recrd): pass\n",
        r"of acme: .*bench_recorded.*recrd",
    ),
    "raises": (GOOD.replace("return [Corner]", "return 1 / 0"), r"bench_components failed \(ZeroDivisionError"),
    "no class": (GOOD.replace("[Corner]", "[Corner, 3]"), r"3 is not a class of a kind \(dataset, model"),
    "not frozen": (
        GOOD.replace("@dataclass(frozen=True)\n", ""),
        r"Corner is not decorated with @dataclass\(frozen=True\)",
    ),
    "no name": (GOOD.replace('name = "corner"', "pass"), r"Corner needs a name of lower-case letters"),
    "bad name": (GOOD.replace('"corner"', '"Cor ner"'), r"Corner needs a name of lower-case letters"),
    "abstract": (GOOD.replace("def attribute", "def atribute"), r"explainer corner lacks attribute"),
    "unknown evidence": (
        GOOD.replace("bench.Explainer", "bench.Metric").replace(
            "attribute(self, network, images, targets)", "__call__(self, clean_map)"
        ),
        r"metric corner names unknown evidence 'clean_map'; did you mean 'clean_maps'",
    ),
    "exit in the hook": (
        GOOD.replace("return [Corner]", "raise SystemExit(3)"),
        r"bench_components failed \(SystemExit",
    ),
    "type that there is not": (
        GOOD.replace("    def attribute", "    k: int | str = bench.param(1, 'x')\n    def attribute"),
        r"explainer corner: parameter k: a parameter cannot have the type int \| str; fix it",
    ),
    "added without a default": (
        GOOD.replace("    def attribute", "    k: int = bench.param(help='x', added=True)\n    def attribute"),
        r"explainer corner: parameter k is added without a default; give the one that does what was done before",
    ),
    "default that does not fit": (
        GOOD.replace("    def attribute", "    k: int = bench.param('many', 'x')\n    def attribute"),
        r"explainer corner: parameter k: its default 'many' is not a whole number",
    ),
    "unreadable annotation": (
        GOOD.replace("    def attribute", "    k: 'Nothing' = bench.param(1, 'x')\n    def attribute"),
        r"its annotations cannot be read: name 'Nothing' is not defined",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_plugin_that_cannot_be_used_is_named_with_the_way_out(install, case):
    source, message = BROKEN[case]
    install("acme", {"acme_plugin": source})
    catalog = catalogs.load()
    assert len(catalog.broken) == 1 and catalog.of("metric")
    with pytest.raises(bench.PluginError, match=message):
        catalog.require_whole()


def test_a_plugin_that_cannot_be_used_is_left_out_by_either_name(install):
    install("acme", {"acme_plugin": "raise SystemExit(3)"})
    assert not catalogs.load(without=["acme"]).broken
    assert not catalogs.load(without=["acme_plugin"]).broken


def test_two_plugins_with_one_name_are_both_named(install):
    install("acme", {"acme_plugin": GOOD})
    install("zenith", {"zenith_plugin": GOOD})
    assert problems(catalogs.load()) == [
        "explainer corner comes from both acme and zenith; continue with --without acme or --without zenith"
    ]
    assert not catalogs.load(without=["zenith"]).broken and not catalogs.load(without=["acme"]).broken


def test_a_name_of_ours_cannot_be_taken(install):
    install("acme", {"acme_plugin": GOOD.replace('"corner"', '"gradient"')})
    (problem,) = problems(catalogs.load())
    assert "explainer gradient comes from both robust-explanation-bench and acme" in problem
    assert not catalogs.load(without=["acme"]).broken


def test_one_name_in_two_kinds_is_no_clash(install):
    install("acme", {"acme_plugin": GOOD.replace('"corner"', '"topk"')})
    assert not catalogs.load().broken


def test_one_module_behind_two_entry_points_is_named(install):
    install("acme", {"acme_plugin": GOOD}, entry_points={"a": "acme_plugin", "b": "acme_plugin"})
    assert "its module acme_plugin is registered by another entry point too" in problems(catalogs.load())[0]


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("explainer", "gradeint", r"no explainer called 'gradeint'; did you mean 'gradient' or "),
        ("explainer", "topk", "no explainer called 'topk'; topk is a component of kind attack"),
        ("explaner", "gradient", r"no kind called 'explaner'; did you mean 'explainer'\?"),
    ],
)
def test_unknown_names_get_a_suggestion(catalog, kind, name, message):
    with pytest.raises(bench.UnknownName, match=message):
        catalog.find(kind, name)


def test_without_an_unknown_plugin_is_an_error():
    with pytest.raises(bench.UnknownName, match="--without acme: no such plugin"):
        catalogs.load(without=["acme"])


def test_the_public_names_are_there():
    assert all(getattr(bench, name) is not None for name in bench.__all__)
    assert "component" in dir(bench)
    with pytest.raises(AttributeError, match="no attribute 'compnent'"):
        bench.compnent  # noqa: B018


def test_every_parameter_says_what_it_is(catalog):
    for kind in KINDS:
        for cls in catalog.of(kind).values():
            for parameter in parameters(cls).values():
                assert parameter.help and parameter.accepts, f"{cls.name}.{parameter.name}"


PACKAGE = {
    "__init__": "import bench\n\n@bench.hookimpl\ndef bench_components():\n    return bench.components_of(__name__)\n",
    "base": """
from abc import abstractmethod
from dataclasses import dataclass
import bench

@dataclass(frozen=True)
class Ranking(bench.Explainer):
    @abstractmethod
    def rank(self, images): ...
    def attribute(self, network, images, targets):
        return self.rank(images)
""",
    "second": """
from dataclasses import dataclass
from manyfiles.base import Ranking
from manyfiles.first import Left

Other = Left

@dataclass(frozen=True)
class Above(Ranking):
    name = "above"
    def rank(self, images):
        return images
""",
    "first": """
from dataclasses import dataclass
from manyfiles.base import Ranking

@dataclass(frozen=True)
class Left(Ranking):
    name = "left"
    def rank(self, images):
        return images
""",
    "_drafts": "raise RuntimeError",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "manyfiles").mkdir()
    for name, source in PACKAGE.items():
        (tmp_path / "manyfiles" / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "manyfiles"]:
        del sys.modules[name]


def test_a_package_yields_the_components_of_its_modules_once(package):
    assert [cls.name for cls in bench.components_of("manyfiles")] == ["above", "left"]


def test_every_built_in_package_yields_what_its_modules_define(catalog):
    packages = {f"bench_{plugin.name}" for plugin in catalog.plugins}
    ours = [name for name in sys.modules if name.partition(".")[0] in packages]
    defined = {
        value
        for name in ours
        for value in vars(sys.modules[name]).values()
        if isinstance(value, type) and issubclass(value, bench.Component) and "name" in vars(value)
    }
    assert {cls for kind in KINDS for cls in catalog.of(kind).values()} == defined
