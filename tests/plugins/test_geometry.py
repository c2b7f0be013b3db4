"""Metrics of the network near an image beside slow forms; in float64."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from slow_metrics import crc, crc_bound, hessian_frobenius, infidelity, local_lipschitz
from torch import nn
from torch.testing import assert_close

import bench
from bench import noise
from bench.gradients import input_gradient
from bench.testing import tiny_images, tiny_network

IMAGES, TARGETS = tiny_images(3)


@pytest.fixture(autouse=True)
def without_graphs():
    """As the harness calls metrics."""
    with torch.no_grad():
        yield


ROWS = SimpleNamespace(rows=torch.tensor([4, 7, 9]))
GIVEN = {"images": IMAGES, "targets": TARGETS, "seed": 3, "test_data": ROWS}


def draws(name, count, draw):
    """What a metric draws for its images in turn, a list of (3, C, H, W)."""
    with noise.rows(3, name, ROWS.rows):
        return [draw(IMAGES) for _ in range(count)]


@pytest.mark.parametrize("name, slow", [("crc", crc), ("crc_bound", crc_bound)])
def test_crc_and_its_bound_beside_slow_forms(name, slow):
    network = tiny_network(True)
    found = bench.component("metric", f"{name}:eps=2/255,draws=3")(network=network, **GIVEN)
    steps = [2 / 255 * step for step in draws("close", 3, noise.normal)]
    for i in range(3):
        assert_close(float(found[i]), slow(network, IMAGES[i], int(TARGETS[i]), [step[i] for step in steps]))


@pytest.mark.parametrize("name, slow", [("crc", crc), ("crc_bound", crc_bound)])
def test_printed_steps_have_the_length_eps(name, slow):
    network, steps = tiny_network(True), []
    found = bench.component("metric", f"{name}:eps=1/10,draws=3,step=unit")(network=network, **GIVEN)
    for drawn in draws("close", 3, noise.normal):
        lengths = [sum(value**2 for value in one.flatten().tolist()) ** 0.5 for one in drawn]
        steps.append([0.1 * one / length for one, length in zip(drawn, lengths, strict=True)])
    for i in range(3):
        assert_close(float(found[i]), slow(network, IMAGES[i], int(TARGETS[i]), [step[i] for step in steps]))


def test_without_a_step_nothing_turns():
    found = bench.component("metric", "crc:eps=0,draws=2")(network=tiny_network(True), **GIVEN)
    assert found.min() >= 0 and found.max() < 1e-12


class Smooth(nn.Module):
    """No max-pooling, whose switches no derivative foresees."""

    def __init__(self, activation):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(432, 40), activation, nn.Linear(40, 3)).double()
        self.requires_grad_(False)

    def forward(self, images):
        return self.layers(images * 4)


def test_the_bound_holds_where_logits_are_curved_and_not_across_kinks():
    for activation, eps, holds in ((nn.Softplus(3.0), "1/255", True), (nn.ReLU(), "32/255", False)):
        values = {
            name: bench.component("metric", f"{name}:eps={eps},draws=4")(network=Smooth(activation), **GIVEN)
            for name in ("crc", "crc_bound")
        }
        assert (values["crc"] > 0).all()
        assert bool((values["crc"] < values["crc_bound"]).all()) == holds
    assert not values["crc_bound"].any()


def test_the_bound_and_the_curvature_are_refused_on_piecewise_linear_networks(bench_):
    for metric in ("crc_bound", "hessian_norm"):
        code, out, err = bench_("plan", "--model", "lenet:activation=relu", "--metric", metric)
        assert code == 0 and f"metric {metric}: the second derivative of lenet:activation=relu is zero" in out + err


def test_the_hessian_norm_is_that_of_the_whole_matrix():
    network = tiny_network(True)
    found = bench.component("metric", "hessian_norm:draws=2000")(network=network, **GIVEN)
    exact = torch.tensor([hessian_frobenius(network, IMAGES[i], int(TARGETS[i])) for i in range(3)])
    assert_close(found, exact.double(), rtol=0.03, atol=0)


@pytest.mark.parametrize("text", ["draws=4", "draws=4,scaled=false", "draws=4,perturbation=square"])
@pytest.mark.parametrize("channels", [1, 3])
def test_infidelity_beside_a_slow_form_and_captum(text, channels):
    network = tiny_network(True)
    metric = bench.component("metric", f"infidelity:{text}")
    attributions = input_gradient(network, IMAGES, TARGETS)[:, :channels]
    found = metric(network=network, clean_attributions=attributions, **GIVEN)
    taken = draws("infidelity", 4, lambda images: metric.draw(network, images))
    for i in range(3):
        given = [one[i] for one in taken]
        assert_close(
            float(found[i]), infidelity(network, IMAGES[i], int(TARGETS[i]), attributions[i], given, metric.scaled)
        )
    if channels == 3:
        from captum.metrics import infidelity as captums

        turn = iter(taken)

        def perturb(images, baselines=None):
            step = next(turn)
            return step, images - step

        theirs = captums(network, perturb, IMAGES, attributions, target=TARGETS, n_perturb_samples=4,
                         max_examples_per_batch=3, normalize=metric.scaled)  # fmt: skip
        assert_close(found, theirs.double())


def test_an_exact_linear_attribution_has_no_infidelity_and_a_zero_one_no_value():
    network = nn.Sequential(nn.Flatten(), nn.Linear(432, 3)).double().requires_grad_(False)
    attributions = input_gradient(network, IMAGES, TARGETS)
    metric = bench.component("metric", "infidelity:draws=3,scaled=false")
    assert metric(network=network, clean_attributions=attributions, **GIVEN).max() < 1e-20
    assert metric(network=network, clean_attributions=0 * attributions, **GIVEN).isnan().all()
    scaled = bench.component("metric", "infidelity:draws=3")
    assert scaled(network=network, clean_attributions=-7 * attributions, **GIVEN).max() < 1e-20


def test_squares_have_their_side_and_lie_inside():
    metric = bench.component("metric", "infidelity:perturbation=square,side=0.25")
    with noise.rows(0, "squares", range(200)):
        taken = metric.draw(tiny_network(True), torch.ones(200, 3, 12, 12, dtype=torch.float64))
    inside = taken[:, 0] != 0
    assert (inside.sum((1, 2)) == 9).all()
    assert inside.any(0).all()


def test_local_lipschitz_beside_a_slow_form():
    network = tiny_network(True)
    explainer = bench.component("explainer", "gradient")
    maps = explainer.maps(network, IMAGES, TARGETS)
    given = {**GIVEN, "network": network, "explain": explainer.maps}
    found = bench.component("metric", "local_lipschitz:eps=8/255,draws=3")(clean_maps=maps, **given)
    moved = draws("local_lipschitz", 3, bench.Ball("linf", 8 / 255).sample)
    for i in range(3):
        others = [explainer.maps(network, one[i : i + 1], TARGETS[i : i + 1])[0] for one in moved]
        assert_close(float(found[i]), local_lipschitz(others, maps[i], [one[i] for one in moved], IMAGES[i]))
    zeroed = maps.clone()
    zeroed[1] = 0
    found = bench.component("metric", "local_lipschitz:draws=1")(clean_maps=zeroed, **given)
    assert found.isnan().tolist() == [False, True, False]


def test_an_image_that_did_not_move_has_no_local_lipschitz():
    black = torch.zeros(40, 1, 1, 1, dtype=torch.float64)
    with noise.rows(0, "local_lipschitz", range(40)):
        moved = bench.Ball("linf", 8 / 255).sample(black).flatten()
    assert 0 < (moved == 0).sum() < 40

    def explain(network, images, targets):
        return torch.full((40, 1, 1), 3.0, dtype=torch.float64)  # not what it was on the same image

    found = bench.component("metric", "local_lipschitz:eps=8/255,draws=1")(
        network=None,
        explain=explain,
        images=black,
        targets=torch.zeros(40, dtype=torch.int64),
        clean_maps=torch.ones(40, 1, 1, dtype=torch.float64),
        seed=0,
        test_data=SimpleNamespace(rows=torch.arange(40)),
    )
    assert_close(found, torch.where(moved > 0, 2 / moved, torch.nan), equal_nan=True)
    several = bench.component("metric", "local_lipschitz:eps=8/255,draws=12")(
        network=None,
        explain=explain,
        images=black,
        targets=torch.zeros(40, dtype=torch.int64),
        clean_maps=torch.ones(40, 1, 1, dtype=torch.float64),
        seed=0,
        test_data=SimpleNamespace(rows=torch.arange(40)),
    )
    assert several.isfinite().all()
