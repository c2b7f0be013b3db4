"""What is found out about attacks and maps after every run, and which cheats that finds."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from marks import mostly_slow

import bench
from bench import noise
from bench.engine import catalog as catalogs
from bench.engine.checks import check_attack, check_maps, compare_maps, flag_attack, flag_maps, may_gain, overlap
from bench.engine.evidence import VOCABULARY
from bench.engine.graph import Graph, Memory
from bench.engine.scoring import find_flags
from bench.engine.selection import select
from bench.engine.store import Store
from bench.testing.fixtures import PlainGradient, tiny_images, tiny_network

ROOT = Path(__file__).parents[2]
BLOBS = (ROOT / "tests" / "core" / "cheats" / "acme_blobs.py").read_text()
CANARIES = (ROOT / "canaries" / "bench_canaries.py").read_text()
QUICK = {
    "dataset": "blobs",
    "model": "masked:inner=(small)",
    "schedule": "quick:epochs=8,batch=32,rate=0.003,limit=192",
    "defense": "ce",
    "attack": "topk:steps=20",
    "samples": "8",
    "metric": "topk_overlap",
}


@pytest.fixture(scope="module")
def kept_store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("cheats"), print)


@pytest.fixture
def flags_of(install, kept_store):
    install("bench-canaries", {"bench_canaries": CANARIES})
    install("acme", {"acme_blobs": BLOBS})
    catalog = catalogs.load()

    def find(**options):
        chosen = {axis: [text] for axis, text in {**QUICK, **options}.items()}
        case = select(catalog, chosen, False).cases[0]
        graph = Graph(VOCABULARY, case, kept_store, torch.device("cpu"), Memory())
        return find_flags(graph, frozenset({"explainer", "attack"}))

    return find


@pytest.mark.parametrize(
    "explainer",
    mostly_slow(["gradient", "input_x_gradient", "guided_backprop", "lrp", "smoothgrad:samples=3"], "gradient"),
)
def test_honest_explainers_carry_no_flag(flags_of, explainer):
    assert flags_of(explainer=explainer) == []


IMAGE, CLASS = "the map hardly depends on the image: ", "the map does not depend on the class explained: "
SHORT, STUCK, BEATEN, BLOCKED = "attack too short: ", "attack stuck: ", "attack beaten: ", "attack blocked: "
FLAT, MISLEADING, CHECK = "gradient masked: ", "gradient misleading: ", "gradient check failed: "
UNMOVED, LOST, BLANK, FEW = "attack fails: ", "map lost: ", "no map: ", "few pixels: "

EXPLAINERS = {
    "rounded": (FLAT, BEATEN, BLOCKED),
    "straight_through": (CHECK, MISLEADING),
    "blob": (IMAGE, CLASS, FLAT),
    "class_map": (IMAGE, BLOCKED, FLAT),
    "half_template": (IMAGE,),
    "seeded_noise": (IMAGE,),
    "seeded_rows": (IMAGE,),
    "constant": (IMAGE, CLASS, FLAT),  # boards break the ties against it
    "sparse": (MISLEADING,),  # boards break the ties against it
    "detached": (CHECK,),
    "decoy": (MISLEADING,),
    "tiny": (MISLEADING, BEATEN, BLOCKED),
    "saturated": (MISLEADING, IMAGE),
    "sharpened": (FEW,),
}


pytestmark = pytest.mark.filterwarnings("ignore:the gradient that the attack follows is zero on every image")


@pytest.mark.parametrize("trick", mostly_slow(EXPLAINERS, "decoy", "seeded_noise"))
def test_a_cheating_explainer_is_flagged(flags_of, trick):
    flags = flags_of(explainer=f"cheat:trick={trick}")
    assert [start for start in EXPLAINERS[trick] if not any(flag.startswith(start) for flag in flags)] == [], flags


def test_an_explainer_that_gives_no_map_where_noise_moves_it_is_flagged(flags_of):
    flags = flags_of(explainer="vanishing")
    assert [flag.partition(":")[0] + ": " for flag in flags] == [LOST]  # boards count these images as lost, too


NETWORKS = {
    "quantised": (CHECK,),
    "scaled": (MISLEADING,),
    "saturated_logits": (FLAT, BLANK),
    "steps": (CHECK,),
    "random": (CHECK,),
}


@pytest.mark.parametrize("trick", mostly_slow(NETWORKS, "quantised"))
def test_a_cheating_network_is_flagged(flags_of, trick):
    flags = flags_of(explainer="gradient", defense=f"arm:trick={trick}")
    assert [start for start in NETWORKS[trick] if not any(flag.startswith(start) for flag in flags)] == [], flags


def test_a_network_that_recomputes_its_layers_for_the_gradient_is_refused(flags_of):
    with pytest.raises(bench.BadComponent, match=r"the network computes relu inside the autograd\.Function Recomputed"):
        flags_of(explainer="gradient", model="masked:inner=(small:activation=relu)", defense="arm:trick=recomputed")


def attack_figures(**changes):
    """Figures of an attack that there is nothing to say against."""
    left = torch.tensor([0.3, 0.2] * 4, dtype=torch.float64)
    none = torch.zeros(8, dtype=torch.bool)
    usual = {"left": left, "doubled": left - 0.01, "larger": left / 2, "wide": left / 8, "blind": left + 0.3}
    slopes = {"predicted": torch.full((8,), 0.01), "actual": torch.full((8,), 0.012)}
    return {**usual, "lost": none, "flat": none, **slopes, **changes}


def test_an_attack_that_has_done_what_it_can_has_no_flag():
    assert list(flag_attack(attack_figures(), 0.04)) == []


COUNTED = "of the top 20 pixels on 8 images"
TEN, SOME = torch.full((8,), 0.1), torch.tensor([True] * 2 + [False] * 6)
FIRED = [
    ({"doubled": TEN}, f"attack too short: twice its steps leave 0.100 instead of 0.250 {COUNTED}"),
    ({"larger": 5 * TEN}, f"attack stuck: half the budget leaves 0.250 instead of 0.500 {COUNTED}"),
    ({"blind": TEN}, f"attack beaten: a blind search leaves 0.100 instead of 0.250 {COUNTED}"),
    (
        {"larger": 2.5 * TEN, "wide": 5 * TEN},
        f"attack blocked: with a wide budget it leaves 0.225 {COUNTED}, chance is 0.020",
    ),
    ({"wide": 0 * TEN + torch.nan}, "attack unstable: it fails in the checks wide"),
    ({"flat": SOME}, "gradient masked: it is zero on 25% of 8 images"),
    (
        {"actual": torch.tensor([0.04] * 5 + [-0.008] * 3)},
        "gradient misleading: along it the objective falls on 62% of 8 images, by 2.20 of the prediction",
    ),
    (
        {"actual": torch.full((8,), 0.004)},
        "gradient misleading: along it the objective falls on 100% of 8 images, by 0.40 of the prediction",
    ),
    (
        {"predicted": torch.zeros(8)},
        "gradient misleading: along it the objective falls on 0% of 8 images, and no fall is predicted",
    ),
    (
        {"predicted": torch.full((8,), 1e-9)},
        "gradient misleading: along it the objective falls on 100% of 8 images, by a huge multiple of the prediction",
    ),
    (
        {"actual": torch.full((8,), torch.nan)},
        "gradient misleading: along it the change of the objective is not a number",
    ),
    ({"lost": SOME}, "map lost: it is zero on 25% of 8 attacked images"),
]


@pytest.mark.parametrize(("changes", "text"), FIRED, ids=lambda case: "" if isinstance(case, dict) else case[:15])
def test_what_a_figure_says_against_an_attack(changes, text):
    assert list(flag_attack(attack_figures(**changes), 0.02)) == [text]


def test_a_difference_that_eight_images_cannot_show_is_no_flag():
    scattered = attack_figures()["left"] + torch.tensor([-0.2, 0.12] * 4)  # the mean is 16% lower
    assert list(flag_attack(attack_figures(doubled=scattered, blind=scattered), 0.04)) == []


def map_figures(**changes):
    usual = {"others": 0.04, "class_mates": 0.05, "swapped": 0.03, "class": 0.9, "blank": 0.0, "weight": 18.0}
    return {name: torch.full((8,), value) for name, value in {**usual, **changes}.items()}


def test_what_a_figure_says_against_maps():
    assert list(flag_maps(map_figures())) == []
    assert list(flag_maps(map_figures(**{"class": float("nan"), "class_mates": float("nan")}))) == []
    shared = "of their top 20 pixels"
    for changes, text in (
        ({"others": 0.5}, f"{IMAGE}maps of different images share 0.500 {shared}"),
        ({"swapped": 0.7}, f"{IMAGE}maps of different images share 0.700 {shared}"),
        ({"class_mates": 1.0}, f"{IMAGE}maps of one class share 1.000 {shared}"),
        ({"class": 1.0}, f"{CLASS}maps of two classes share 1.000 {shared}"),
        ({"blank": 0.25}, "no map: it is zero on 25% of the clean images"),
        ({"weight": 1.5}, "few pixels: the top 20 weigh as much as 1.5 equal ones"),
    ):
        assert list(flag_maps(map_figures(**changes))) == [text]


def random_maps(count=6):
    with noise.rows(0, "maps", range(count)):
        return noise.uniform(torch.empty(count, 6, 6), 0, 1)


def test_overlap_and_its_kin_against_a_slow_loop():
    maps = random_maps()
    maps[4] = 0
    tops = [set(m.flatten().argsort(descending=True)[:20].tolist()) if m.any() else set() for m in maps]
    targets = torch.tensor([0, 0, 1, 1, 1, 2])
    figures = compare_maps(maps, targets)
    for i, mine in enumerate(tops):
        shared = {j: len(mine & tops[j]) / 20 for j in range(6) if j != i}
        mates = [share for j, share in shared.items() if targets[j] == targets[i]]
        assert float(figures["others"][i]) == pytest.approx(sum(shared.values()) / 5)
        assert (
            float(figures["class_mates"][i]) == pytest.approx(sum(mates) / len(mates), nan_ok=True) if mates else True
        )
    assert figures["class_mates"][5].isnan() and figures["blank"].tolist() == [False] * 4 + [True, False]
    assert overlap(maps, maps.roll(1, 0)).tolist() == pytest.approx([len(tops[i] & tops[i - 1]) / 20 for i in range(6)])
    spiked = torch.zeros(1, 6, 6)
    spiked[0, 2, :4] = torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert float(compare_maps(spiked, targets[:1])["weight"]) == pytest.approx(3)


@pytest.fixture
def victim():
    return bench.Victim(tiny_network(smooth=True, dtype=torch.float32), PlainGradient())


@pytest.fixture
def rows():
    images, targets = tiny_images(5)
    return images.float(), targets


BALL = bench.Ball("linf", Fraction(8, 255))


def test_slopes_of_an_objective_whose_derivative_is_known(victim, rows):
    @dataclasses.dataclass(frozen=True)
    class Sum(bench.Attack):
        name = "sum"

        def perturb(self, victim, images, targets, ball):
            return images - float(ball.eps)

        def make_objective(self, victim, images, targets):
            # Falls half as fast as its gradient says.
            return lambda moved: moved.sum((1, 2, 3)) - moved.sum((1, 2, 3)).detach() / 2

    images, targets = rows
    with noise.rows(0, "some", range(5)):
        figures = check_attack(victim, Sum(), BALL, 0, images, targets, images, torch.arange(5))
    # A grey level on each of 3 x 12 x 12 values, which is less than a fifth of eps.
    assert figures["predicted"].tolist() == pytest.approx([432 / 255] * 5, rel=1e-4)
    assert figures["actual"].tolist() == pytest.approx([216 / 255] * 5, rel=1e-4)
    assert figures["left"].tolist() == [1] * 5 and not figures["flat"].any() and not figures["lost"].any()
    assert (figures["blind"] <= 1).all() and (figures["blind"] < 1).any()


@dataclasses.dataclass(frozen=True)
class Ramp(bench.Explainer):
    """A ramp over the image, which turns where the corner is bright."""

    name = "ramp"

    def attribute(self, network, images, targets):
        ramp = torch.arange(1.0, 145.0).reshape(1, 1, 12, 12)
        return torch.where(images[:, :1, :1, :1] > 0.51, 145 - ramp, ramp)


LARGER, TWICE, WIDE = (1, "linf:16/255"), (2, "linf:8/255"), (1, "linf:1/4")


@pytest.mark.parametrize(
    ("attack_left", "moving", "ran"),
    [
        (0, True, [LARGER]),  # it cannot leave less
        (0, False, [LARGER]),
        (1, True, [LARGER, TWICE]),  # in the larger ball it leaves nothing
        (1, False, [LARGER, TWICE, WIDE]),
    ],
)
def test_an_attack_runs_again_only_where_that_can_raise_a_flag(victim, rows, attack_left, moving, ran):
    runs = []

    @dataclasses.dataclass(frozen=True)
    class Brighter(bench.Attack):
        name = "brighter"
        steps: int = bench.param(1, "steps", low=1)

        def perturb(self, victim, images, targets, ball):
            runs.append((self.steps, str(ball)))
            return ball.project(images + 1, images) if moving else images

        def make_objective(self, victim, images, targets):
            return lambda moved: moved.sum((1, 2, 3))

    images, targets = rows
    images[:, :, 0, 0] = 0.5
    attacked = images if attack_left else images + 8 / 255
    victim = dataclasses.replace(victim, explainer=Ramp())
    figures = check_attack(victim, Brighter(), BALL, 0, images, targets, attacked, torch.arange(5))
    assert runs == ran and figures["left"].tolist() == [attack_left] * 5
    assert figures["larger"].tolist() == [1 - moving] * 5
    if TWICE not in ran:
        assert torch.equal(figures["doubled"], figures["left"])
    if WIDE not in ran:
        assert torch.equal(figures["wide"], torch.minimum(figures["left"], figures["larger"]))


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_no_run_gains_where_few_images_have_anything_left(count):
    torch.manual_seed(0)
    for some in range(count + 1):
        left = torch.zeros(count, dtype=torch.float64)
        left[:some] = 0.5
        runs = [left * torch.rand(count) for _ in range(50)] + [torch.zeros(count, dtype=torch.float64)]
        usual = {name: figure[:count] for name, figure in attack_figures(left=left, larger=left, wide=left).items()}
        flags = [flag for run in runs for flag in flag_attack({**usual, "doubled": run}, 0.04)]
        assert any(flag.startswith(SHORT) for flag in flags) == may_gain(left)  # the last run is the clearest


def test_two_classes_may_mirror_each_other(victim, rows):
    images, targets = rows
    figures = check_maps(victim, images, targets % 2, 2, 0, torch.arange(5))
    assert figures["class"].isnan().all() and figures["swapped"].isfinite().all()
    alone = check_maps(victim, images[:1], targets[:1], 3, 0, torch.arange(1))
    assert alone["swapped"].isnan().all() and alone["class"].isfinite().all()


@pytest.mark.parametrize(
    ("text", "twice"),
    [
        ("topk:k=5,steps=7", "topk:k=5,steps=14"),
        ("random_search:queries=3", "random_search:queries=6"),
        ("sign_noise:candidates=2", "sign_noise:candidates=4"),
        ("target_map", "target_map:steps=100"),
    ],
)
def test_the_same_attack_with_twice_the_effort(catalog, text, twice):
    assert str(catalog.read("attack", text).doubled) == twice
    assert catalog.read("attack", "transfer:source=(ce)").doubled is None


def test_no_attack_takes_more_steps_than_it_may():
    @dataclasses.dataclass(frozen=True)
    class Brief(bench.Attack):
        name = "brief"
        steps: int = bench.param(6, "steps", low=1, high=10)

        def perturb(self, victim, images, targets, ball):
            return images

    class Fixed(Brief):
        name = "fixed"
        steps = 3

    assert Brief().doubled is None and Brief(steps=5).doubled == Brief(steps=10)
    assert dataclasses.dataclass(frozen=True)(Fixed)(steps=4).doubled.steps == 8


@pytest.mark.parametrize(("images", "checked"), [(3, 3), (6, 4), (12, 6), (20, 8)])
def test_half_of_the_images_are_checked_and_at_most_eight(tiny_case, store, images, checked):
    case = dataclasses.replace(tiny_case, samples=images)
    graph = Graph(VOCABULARY, case, store, torch.device("cpu"), Memory())
    assert len(graph.get("attack_checks")["left"]) == checked


def test_no_budget_and_no_gradient_are_no_matter_of_checks(tiny_case, catalog, store):
    for changes in ({"ball": bench.Ball("linf", Fraction(0))}, {"attack": catalog.read("attack", "uniform_noise")}):
        graph = Graph(VOCABULARY, dataclasses.replace(tiny_case, **changes), store, torch.device("cpu"), Memory())
        assert graph.get("attack_checks") == {}
        assert graph.get("attack_checks") is graph.get("attack_checks")
        again = Graph(VOCABULARY, graph.case, store, torch.device("cpu"), Memory())
        assert again.get("attack_checks") == {}
