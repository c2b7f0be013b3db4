"""Conventions of shape, range and unit."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy
import pytest
import torch
from scipy.stats import kstest
from torch import nn
from torch.testing import assert_close

import bench
from bench import noise
from bench.maps import mask, reduce
from bench.testing import tiny_images, tiny_network
from bench.testing.fixtures import PlainGradient, tiny_victim

LINF, L2 = bench.Ball("linf", Fraction(8, 255)), bench.Ball("l2", Fraction(1, 2))


@pytest.fixture
def origin():
    return noise.uniform(torch.empty(6, 3, 5, 5), 0, 1)


@pytest.mark.parametrize("ball", [LINF, L2], ids=str)
def test_projection_ends_in_the_ball_and_the_box_and_moves_nothing_twice(ball, origin):
    far = origin + noise.normal(origin)
    near = ball.project(far, origin)
    change = (near - origin).flatten(1)
    size = change.abs().amax(1) if ball is LINF else change.norm(dim=1)
    assert (size <= float(ball.eps) + 1e-6).all() and near.min() >= 0 and near.max() <= 1
    assert_close(ball.project(near, origin), near)
    assert torch.equal(ball.project(origin, origin), origin)


def test_l2_projection_by_hand():
    origin = torch.full((1, 1, 1, 2), 0.5)
    moved = origin + torch.tensor([3.0, 4.0])
    assert_close(bench.Ball("l2", Fraction(1, 4)).project(moved, origin), origin + torch.tensor([0.15, 0.2]))


@pytest.mark.parametrize("ball", [LINF, L2], ids=str)
def test_samples_fill_the_ball(ball):
    origin = torch.full((4000, 1, 1, 3), 0.5)
    ball = bench.Ball(ball.norm, Fraction(1, 4))
    change = (ball.sample(origin) - origin).flatten(1) * 4
    if ball.norm == "linf":
        assert_close(change.std(0), torch.full((3,), 3**-0.5), atol=0.02, rtol=0)
    else:
        # In the unit ball of three dimensions the radius has the distribution r^3.
        radius = change.norm(dim=1)
        assert radius.max() <= 1 + 1e-5
        assert_close((radius**3).mean(), torch.tensor(0.5), atol=0.02, rtol=0)
    assert change.mean(0).abs().max() < 0.03


def test_draws_from_an_l2_ball_differ_in_direction_and_length():
    ball, origin = bench.Ball("l2", Fraction(1, 4)), torch.full((2000, 1, 1, 3), 0.5, dtype=torch.float64)
    with noise.rows(0, "draws", range(len(origin))):
        drawn = [(ball.sample(origin) - origin).flatten(1) for _ in range(2)]
    radii = torch.stack([change.norm(dim=1) for change in drawn])
    assert radii.max() <= 0.25 and abs(torch.corrcoef(radii)[0, 1]) < 0.1
    assert abs(torch.cosine_similarity(*drawn).mean()) < 0.1
    for uniform in (radii / 0.25) ** 3:
        assert kstest(uniform.numpy(), "uniform").pvalue > 0.001


def test_the_steepest_direction_has_unit_length():
    gradient = torch.tensor([[[[3.0, -4.0]]], [[[0.0, 0.0]]]])
    assert_close(LINF.steepest(gradient)[0], torch.tensor([[[1.0, -1.0]]]))
    assert_close(L2.steepest(gradient)[0], torch.tensor([[[0.6, -0.8]]]))
    assert not L2.steepest(gradient)[1].any()


def test_a_map_is_the_absolute_sum_over_channels_of_sum_one():
    attribution = torch.tensor([[[[1.0, -2.0]], [[-3.0, 0.0]]], [[[0.0, 0.0]], [[0.0, 0.0]]]])
    assert_close(reduce(attribution), torch.tensor([[[4 / 6, 2 / 6]], [[0.0, 0.0]]]))


def test_masks_by_rule():
    flat = torch.arange(201.0).view(1, 1, 3, 67)
    found = mask(flat, "percentile").flatten()
    assert found[0] == 0 and found[-1] == 1 and found[198] == 1 and found[100] == pytest.approx(100 / 198)
    assert_close(mask(flat, "minmax"), flat / 200)
    assert_close(mask(flat / 100, "none"), (flat / 100).clamp(0, 1))
    assert not mask(torch.ones(1, 3, 2, 2), "minmax").any()


def test_a_choice_is_balanced_and_part_of_every_larger_one():
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    data = bench.Data(torch.zeros(100, 1, 2, 2), labels, ("a", "b", "c"))
    small, large = data.choice(12), data.choice(40)
    assert labels[small].bincount().tolist() == [4, 4, 4]
    assert set(small.tolist()) <= set(large.tolist()) and torch.equal(small, small.sort().values)
    assert data.choice(100).tolist() == list(range(100))
    assert labels[data.choice(90)].bincount().tolist() == [40, 30, 20]
    with pytest.raises(
        bench.EnvironmentProblem, match="101 samples requested, but the split has 100; use 100 or fewer"
    ):
        data.choice(101)


def test_chosen_rows_keep_their_places():
    data = bench.Data(torch.arange(4.0).view(4, 1, 1, 1), None, (), object_masks=torch.zeros(4, 1, 1))
    part = data.at(torch.tensor([1, 3]))
    assert part.images.flatten().tolist() == [1, 3] and part.indices.tolist() == [1, 3] and part.gaze is None
    assert len(data.choice(2)) == 2


def test_a_victim_gives_maps_and_logits_from_one_forward_where_it_can(origin):
    network = nn.Sequential(nn.Flatten(), nn.Linear(75, 3), nn.Softplus(), nn.Linear(3, 3))
    forwards = []
    network.register_forward_hook(lambda *_: forwards.append(1))
    targets = torch.zeros(6, dtype=torch.int64)
    for name, count in (("gradient", 1), ("smoothgrad:samples=4", 2)):
        forwards.clear()
        victim = bench.Victim(network, bench.component("explainer", name))
        maps, logits = victim.both(origin, targets)
        assert len(forwards) == count
        assert_close(logits, network(origin))
        assert_close(maps, victim.maps(origin, targets))
    assert len(network._forward_hooks) == 1


def test_the_harness_normalises_inside():
    network = bench.Normalised(nn.Identity(), [0.5], [0.25])
    assert_close(network(torch.full((1, 1, 1, 1), 0.75)), torch.ones(1, 1, 1, 1))


def test_the_radius_of_an_l2_sample_is_independent_of_its_direction_outside_any_rows():
    origin = torch.full((8000, 1, 1, 3), 0.5)
    change = (bench.Ball("l2", Fraction(1, 4)).sample(origin) - origin).flatten(1).abs()
    share = change / change.norm(dim=1, keepdim=True)
    together = torch.corrcoef(torch.stack([change.norm(dim=1), *share.T]))[0, 1:]
    assert together.abs().max() < 4 / 8000**0.5


def test_a_victim_is_not_misled_by_a_view_of_the_images(origin):
    network = nn.Sequential(nn.Flatten(), nn.Linear(75, 3)).requires_grad_(False)

    @dataclass(frozen=True)
    class Turned(bench.Explainer):
        name = "turned"

        def attribute(self, network, images, targets):
            network(images.transpose(2, 3))
            network(input=images)
            return images

    victim = bench.Victim(network, Turned())
    assert_close(victim.both(origin, torch.zeros(6, dtype=torch.int64))[1], network(origin))


@pytest.mark.parametrize("eps", ["8/255", float("nan"), -1, 2])
def test_a_budget_that_is_none_is_refused(eps):
    with pytest.raises(bench.BadValue, match=r"eps .* is (impossible|not a number)"):
        bench.Ball("linf", eps)


@pytest.mark.parametrize("marked", [1, 3, 40])
@pytest.mark.parametrize("scale", [2e-4, 0.02, 1.0, 50.0])
@pytest.mark.parametrize("floor", [0.0, 0.25])
def test_the_mask_of_a_sparse_map_does_not_depend_on_its_scale(marked, scale, floor):
    attribution = torch.full((1, 1, 20, 20), floor, dtype=torch.float64)
    attribution.view(-1)[:marked] = floor + torch.linspace(0.5, 1, marked, dtype=torch.float64)
    found = mask(scale * attribution, "percentile")
    values = attribution.flatten().numpy()
    high = numpy.percentile(values, 99) if numpy.percentile(values, 99) > values.min() else values.max()
    expected = ((values - values.min()) / (high - values.min())).clip(0, 1)
    torch.testing.assert_close(found.flatten(), torch.from_numpy(expected))
    assert found.max() == 1 and int((found > 0).sum()) == marked


def test_the_mask_of_a_constant_map_is_zero():
    for rule in ("percentile", "minmax"):
        assert not mask(torch.full((1, 3, 5, 5), 0.3), rule).any()


SCALES = {
    "normalised": (lambda images: (images - 0.5) / 0.25, r"from -1\.\d+ to 1\.\d+; pass images in \[0, 1\]"),
    "bytes": (lambda images: 255 * images, r"from 2\d\.\d to 2\d\d; pass .* \(divide bytes by 255\) and leave"),
    "signed": (lambda images: 2 * images - 1, r"from -0\.\d+ to 0\.\d+; .* leave normalisation to the network"),
    "a little above": (lambda images: images + 0.25, r"from 0\.\d+ to 1\.1\d*; pass images in"),
}


@pytest.mark.parametrize("scale", SCALES)
def test_images_of_another_scale_are_refused_by_every_attack_and_explainer(catalog, scale):
    change, message = SCALES[scale]
    images, targets = tiny_images()
    network = tiny_network(True)
    victim = tiny_victim(network)
    for name, cls in catalog.of("attack").items():
        attack = catalog.read("attack", f"{name}:{cls.examples[0]}".rstrip(":"))
        with pytest.raises(bench.BadValue, match=f"images range {message}"):
            attack.perturb(victim, change(images), targets, LINF)
    for name, cls in catalog.of("explainer").items():
        explainer = catalog.read("explainer", f"{name}:{cls.examples[0]}".rstrip(":"))
        with pytest.raises(bench.BadValue, match=f"images range {message}"), torch.no_grad():
            explainer.maps(network, change(images), targets, {"learned": images})


def test_images_of_another_scale_are_refused_by_metrics_and_as_references():
    images, targets = tiny_images()
    network = tiny_network(True)
    wrong = 255 * images
    given = {"network": network, "images": images, "targets": targets, "clean_attributions": images}
    with pytest.raises(bench.BadValue, match="images range from"):
        bench.component("metric", "insertion")(**{**given, "images": wrong})
    with pytest.raises(bench.BadValue, match="images range from"):
        bench.Victim(network, PlainGradient(), wrong)
    assert bench.component("metric", "insertion")(**given).values.isfinite().all()


def test_rounding_is_no_other_scale():
    images, targets = tiny_images()
    images[0, 0, 0, :2] = torch.tensor([-1e-8, 1 + 1e-8])
    moved = bench.component("attack", "pgd:steps=1").perturb(tiny_victim(tiny_network(True)), images, targets, LINF)
    assert moved.isfinite().all() and not torch.equal(moved, images)
