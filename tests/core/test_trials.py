"""What models, explainers, defenses and metrics refuse is known before anything is trained."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import bench
from bench import engine
from bench.engine import list_cells, select
from bench.engine.trials import find_unfit

NO_BCOS = "bcos: the network has no B-cos layers, whose weights for an image can be read off; use --model bcos, or"
NO_ATTENTION = "the network has no attention; use an explainer such as gradient"


def refuse(catalog, metric="topk_overlap", **given):
    """Why the one case of some choices is refused."""
    chosen = {"defense": ["ce"], "explainer": ["gradient"], **{key: [text] for key, text in given.items()}}
    (case,) = select(catalog, chosen, reference=False).cases
    (cell,) = list_cells(catalog, [case], [bench.component("metric", metric)])
    return cell.refusal


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"explainer": "bcos"}, NO_BCOS),
        ({"explainer": "attention_rollout"}, f"attention_rollout: {NO_ATTENTION}"),
        ({"explainer": "transformer_attribution"}, f"transformer_attribution: {NO_ATTENTION}"),
        ({"explainer": "smooth:explainer=(bcos)"}, NO_BCOS),
        ({"explainer": "aggregation:explainers=(gradient,bcos)"}, NO_BCOS),
        ({"surrogate": "bcos"}, NO_BCOS),
        ({"explainer": "bcos", "defense": "ensemble:networks=2"}, NO_BCOS),
        ({"explainer": "gradcam:layer=x"}, "gradcam: the network has no layer 'x'; known: network, network.0"),
        ({"model": "feature_smoothing:model=(lenet),layer=x"}, "feature_smoothing: model lenet has no layer 'x'"),
        ({"defense": "norm_at:norm=group,block=33"}, "norm_at: block is 33, images are 32 x 32; give a smaller block"),
        ({"defense": "r2et:k=513"}, "r2et: k is 513, images are 32 x 32; give at most half of their pixels"),
        ({"defense": "active_fooling:second=10"}, "active_fooling: there is no class 10, the data set has 10; they"),
        ({"defense": "backdoor:target_class=10"}, "backdoor: target_class is 10, but the data set has 10 classes"),
        ({"metric": "aopc:region=16"}, "aopc: images of 32 x 32 pixels have 4 squares of 16; ask for 4 steps or fewer"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_before_a_training(catalog, given, words):
    assert words in refuse(catalog, **given)


@pytest.mark.parametrize(
    "given",
    [
        {"explainer": "bcos", "model": "bcos"},
        {"explainer": "lrp"},
        {"explainer": "gradcam", "defense": "ensemble:networks=2"},
        {"explainer": "bcos", "metric": "accuracy"},
        {"defense": "norm_at:norm=l1,block=33"},
    ],
    ids=str,
)
def test_what_fits_is_not_refused(catalog, given):
    assert refuse(catalog, **given) is None


def test_ssr_is_refused_for_more_than_100_classes(tiny_case):
    @dataclasses.dataclass(frozen=True)
    class Many(type(tiny_case.dataset)):
        form = ((3, 32, 32), 101)

    case = dataclasses.replace(tiny_case, dataset=Many())
    words = "it takes a backward pass for each of 101 classes; limit them, such as ssr:classes=10"
    assert bench.component("defense", "ssr").refuse(case) == words
    assert bench.component("defense", "ssr:classes=10").refuse(case) is None


def test_images_of_another_form_are_told_and_refuse_nothing(catalog, tiny_case):
    @dataclasses.dataclass(frozen=True)
    class Flat(type(tiny_case.dataset)):
        def load(self, split):
            return bench.Data(torch.rand(4, 32, 32), torch.arange(4) % 2, ("a", "b"))

    case = dataclasses.replace(tiny_case, dataset=Flat())
    with pytest.raises(bench.errors.EnvironmentProblem, match=r"have the shape \(4, 32, 32\), must be \(N, C, H, W\)"):
        _ = case.dataset.form
    (cell,) = list_cells(catalog, [case], [bench.component("metric", "accuracy")])
    assert cell.refusal is None


def test_a_trial_leaves_no_trace_in_the_generator(tiny_case):
    case = dataclasses.replace(tiny_case, explainer=bench.component("explainer", "bcos"))
    state = torch.get_rng_state()
    assert find_unfit(case, {"explainer": case.explainer}).startswith("bcos: ")
    assert torch.equal(state, torch.get_rng_state())


def test_a_run_tells_what_it_refuses_before_it_computes(bench_, monkeypatch):
    def stop(*args):
        raise bench.BadValue("stopped")

    monkeypatch.setattr(engine, "run_cells", stop)
    words = ["--explainer", "bcos", "--explainer", "gradient", "--metric", "topk_overlap", "--metric", "accuracy"]
    _, _, err = bench_("run", *words, "--no-reference")
    first, second = err.splitlines()
    assert first.startswith("bench: refused: topk_overlap of ") and NO_BCOS in first and second == "bench: stopped"
