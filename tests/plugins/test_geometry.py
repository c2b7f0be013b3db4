"""Metrics of the network near an image beside slow forms; in float64."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from slow_metrics import (
    crc,
    crc_bound,
    gradient,
    hessian,
    hessian_frobenius,
    infidelity,
    l2_criterion,
    local_lipschitz,
    loss_hessian,
    norm,
    probability,
)
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


NEARBY = [("crc", crc), ("crc_bound", crc_bound), ("l2_criterion", l2_criterion)]


@pytest.mark.parametrize("name, slow", NEARBY)
def test_criteria_and_the_bound_beside_slow_forms(name, slow):
    network, kind = tiny_network(True), "uniform" if name == "l2_criterion" else "normal"
    found = bench.component("metric", f"{name}:eps=2/255,draws=3,step={kind}")(network=network, **GIVEN)
    steps = [2 / 255 * step for step in draws("close", 3, getattr(noise, kind))]
    for i in range(3):
        assert_close(float(found[i]), slow(network, IMAGES[i], int(TARGETS[i]), [step[i] for step in steps]))


@pytest.mark.parametrize("name, slow", NEARBY)
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


def test_a_larger_last_layer_scales_the_l2_criterion_and_leaves_the_cosine_alone():
    """Joo et al., lemma 3 and proposition 5, on networks with softplus and with ReLU."""
    for smooth in (True, False):
        network, larger = tiny_network(smooth), tiny_network(smooth)
        for parameter in larger.network[-1].parameters():
            parameter.data.mul_(7)
        found = {}
        for name in ("l2_criterion", "crc"):
            metric = bench.component("metric", f"{name}:eps=8/255,draws=2")
            found[name] = [metric(network=one, **GIVEN) for one in (network, larger)]
        assert (found["crc"][0] > 1e-4).all()
        assert_close(found["l2_criterion"][1], 7 * found["l2_criterion"][0])
        assert_close(found["crc"][1], found["crc"][0], rtol=1e-9, atol=1e-12)


def curved(seed):
    """A random smooth network for images of a few pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential(nn.Flatten(), nn.Linear(8, 12), nn.Softplus(3.0), nn.Linear(12, 3)).double()
    layers[1].weight.data.mul_(3)
    return layers.requires_grad_(False)


def random_images(count, seed):
    return torch.rand(count, 1, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(10))
def test_the_printed_bound_of_the_cosine_holds_on_random_networks(seed):
    """Joo et al., theorem 6: Gamma_cos <= (eps |H|_F + O(eps^2)) / |grad g(x + eps d)|, and its tighter form."""
    network, image = curved(seed), random_images(1, seed)[0]
    direction = torch.randn(image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for eps in (0.1, 0.01):
        step = eps * direction / norm(direction)
        found = crc(network, image, 1, [step])
        tight = crc_bound(network, image, 1, [step])
        printed = eps * hessian_frobenius(network, image, 1) / norm(gradient(network, image + step, 1)[1])
        assert 0 < found <= tight <= printed


@pytest.mark.parametrize("seed", range(4))
def test_curvature_bounds_the_change_of_the_loss_gradient(seed):
    """Wang et al., theorem 3: |grad L(x') - grad L(x)| <= eps max |eigenvalue|, to first order in eps."""
    network, images = curved(seed), random_images(3, seed)
    metric = bench.component("metric", "curvature:steps=200")
    found = metric(network=network, **{**GIVEN, "images": images})
    eps = 1e-3

    def slopes(images):
        with torch.enable_grad():
            leaf = images.clone().requires_grad_()
            loss = nn.functional.cross_entropy(network(leaf), TARGETS, reduction="sum")
            return torch.autograd.grad(loss, leaf)[0].flatten(1)

    for draw in range(20):
        step = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(draw))
        step = eps * step / step.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        moved = (slopes(images + step) - slopes(images)).norm(dim=1)
        assert (moved <= eps * found * (1 + 0.01)).all()


def test_a_switch_of_max_pooling_breaks_the_bounds():
    """The winner changes from one pixel to its neighbour, and the gradient with it; no derivative foresees that."""
    pooled = nn.Sequential(nn.MaxPool2d((1, 2)), nn.Flatten(), nn.Linear(1, 2), nn.Softplus()).double()
    pooled.requires_grad_(False)
    image, step = torch.tensor([[[0.5, 0.501]]]).double(), torch.tensor([[[0.002, 0.0]]]).double()
    assert crc(pooled, image, 0, [step]) == pytest.approx(0.5)
    assert crc_bound(pooled, image, 0, [step]) < 0.01
    printed = 0.002 * hessian_frobenius(pooled, image, 0) / norm(gradient(pooled, image + step, 0)[1])
    assert printed < 0.01


@pytest.mark.parametrize("smooth", [True, False])
def test_curvature_is_the_largest_eigenvalue_of_the_explicit_hessian(smooth):
    network = curved(3) if smooth else nn.Sequential(*curved(3)[:2], nn.ReLU(), curved(3)[3])
    images = random_images(3, 5)
    found = bench.component("metric", "curvature:steps=300")(network=network, **{**GIVEN, "images": images})
    for i in range(3):
        exact = loss_hessian(network, images[i], int(TARGETS[i]))
        assert_close(float(found[i]), float(torch.linalg.eigvalsh(exact).abs().max()), rtol=1e-8, atol=0)
        assert not smooth or hessian(network, images[i], int(TARGETS[i])).any()


def test_the_power_iteration_takes_over_where_there_are_many_classes(monkeypatch):
    network = nn.Sequential(*curved(3)[:2], nn.ReLU(), curved(3)[3])
    given = {"network": network, **GIVEN, "images": random_images(3, 5)}
    exact = bench.component("metric", "curvature")(**given)
    monkeypatch.setattr("bench_metrics.curvature.MOST", 2)
    iterated = bench.component("metric", "curvature:steps=1")(**given), bench.component("metric", "curvature")(**given)
    assert_close(iterated[1], exact, rtol=1e-6, atol=0)
    assert (iterated[0] < exact).all()


@pytest.mark.parametrize(
    ("smooth", "of", "explicit"),
    [(True, "logit", hessian), (True, "loss", loss_hessian), (False, "loss", loss_hessian)],
)
def test_the_hessian_norm_beside_the_explicit_one(smooth, of, explicit):
    network = curved(3) if smooth else nn.Sequential(*curved(3)[:2], nn.ReLU(), curved(3)[3])
    images = random_images(3, 5)
    found = bench.component("metric", f"hessian_norm:draws=4,of={of}")(network=network, **{**GIVEN, "images": images})
    with noise.rows(3, "hessian_norm", ROWS.rows):
        taken = [noise.normal(images) for _ in range(4)]
    for i in range(3):
        exact = explicit(network, images[i], int(TARGETS[i]))
        expected = (sum(norm(exact @ one[i].flatten()) ** 2 for one in taken) / 4) ** 0.5
        assert_close(float(found[i]), expected, rtol=1e-9, atol=0)


def test_the_bound_of_smoothgrad_beside_a_slow_form():
    network, eps = tiny_network(True), 0.5
    found = bench.component("metric", "smoothgrad_bound:eps=1/2,draws=3,noise=0.2")(network=network, **GIVEN)
    others = draws("smoothgrad_bound", 3, bench.Ball("l2", eps).sample)
    for i in range(3):
        steepest = 0.0
        for image in (IMAGES[i], *(other[i] for other in others)):
            shares = [probability(network, image, k) for k in range(3)]
            slopes = [gradient(network, image, k)[1] for k in range(3)]
            centre = sum(share * one for share, one in zip(shares, slopes, strict=True))
            target = int(TARGETS[i])
            steepest = max(steepest, norm(shares[target] * (slopes[target] - centre)))
        deviation = 0.2 * float(IMAGES[i].max() - IMAGES[i].min())
        smoothgrads, gradients = 2 / deviation**2, 2 * steepest / eps
        assert_close(float(found[i]), smoothgrads / gradients)
        # Proposition 2: the first is smaller where the deviation is above sqrt(eps F / L), with F = 1.
        assert (float(found[i]) < 1) == (deviation > (eps / steepest) ** 0.5)
    constant = nn.Sequential(nn.Flatten(), nn.Linear(432, 3)).double().requires_grad_(False)
    constant[1].weight.data.zero_()
    assert bench.component("metric", "smoothgrad_bound:draws=1")(network=constant, **GIVEN).isnan().all()


@pytest.mark.parametrize("activation", [nn.Softplus(3.0), nn.ReLU()])
@pytest.mark.parametrize("seed", range(4))
def test_the_bound_of_smoothgrad_holds_on_random_networks_of_two_inputs(activation, seed):
    """Wang et al., theorem 2: the mean gradient over N(x, s^2 I) changes by at most 2 F / s^2 times the distance, and
    lemma 2, which gives it without a gradient. Means are by Gauss-Hermite quadrature."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(2, 16), activation, nn.Linear(16, 3), nn.Softmax(1)).double()
    network[0].weight.data.mul_(8)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    points = torch.tensor([[a, b] for a in nodes for b in nodes])
    mass = torch.tensor([v * w for v in weights for w in weights]) / (2 * math.pi)
    for s in (0.1, 0.5):

        def smooth_gradient(place, s=s):
            values = network(place + s * points)[:, 0]
            return (mass[:, None] * points * values[:, None]).sum(0) / s

        place = torch.tensor([0.4, 0.6]).double()
        for step in ([0.01, 0.0], [0.0, 0.01], [-0.3, 0.4]):
            moved = smooth_gradient(place + torch.tensor(step).double()) - smooth_gradient(place)
            assert 0 < norm(moved) <= 2 / s**2 * norm(torch.tensor(step))


def test_the_bound_and_the_curvature_are_refused_on_piecewise_linear_networks(bench_):
    for metric in ("crc_bound", "hessian_norm"):
        code, out, err = bench_("plan", "--model", "lenet:activation=relu", "--metric", metric)
        assert code == 0 and f"metric {metric}: the second derivative of lenet:activation=relu is zero" in out + err
    flat = SimpleNamespace(model=bench.component("model", "lenet:activation=relu"))
    assert bench.component("metric", "hessian_norm:of=loss").refuse(flat) is None


def test_the_hessian_norm_is_that_of_the_whole_matrix():
    network, images = curved(3), random_images(3, 5)
    found = bench.component("metric", "hessian_norm:draws=500")(network=network, **{**GIVEN, "images": images})
    exact = torch.tensor([hessian_frobenius(network, images[i], int(TARGETS[i])) for i in range(3)])
    assert_close(found, exact.double(), rtol=0.06, atol=0)


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
