"""Networks and images in half precision, beside the same numbers in single precision."""

from __future__ import annotations

import copy
from fractions import Fraction

import pytest
import torch
from torch import nn

import bench
from bench import noise

BALLS = [bench.Ball(norm, Fraction(*eps)) for norm, eps in (("linf", (8, 255)), ("l2", (8, 255)), ("l2", (1, 2)))]
TARGETS = torch.tensor([0, 1, 2])


@pytest.fixture(params=[torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def dtype(request):
    return request.param


@pytest.fixture
def half(dtype):
    """A network and images in half precision."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
            *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * 36, 3)),
        )
        images = torch.rand(3, 3, 12, 12)
    return network.to(dtype).eval().requires_grad_(False), images.to(dtype)


def single(half):
    network, images = half
    return copy.deepcopy(network).float(), images.float()


@pytest.mark.parametrize(
    "text",
    [
        *("gradient", "integrated_gradients:steps=4", "smoothgrad:samples=4", "unigrad:samples=3", "vargrad:samples=4"),
        *("deeplift", "occlusion", "lrp", "guided_backprop", "gradcam", "mask:steps=6,cells=4", "input_x_gradient"),
        *("relex:steps=3,samples=2", "moreau_grad:steps=3,average=2,samples=2", "edge_map", "sparse_gradient"),
    ],
)
def test_maps_and_masks_are_near_those_of_single_precision(text, half):
    explainer, found = bench.component("explainer", text), []
    for network, images in (half, single(half)):
        with torch.no_grad(), noise.rows(0, "half", range(3)), noise.call(0):
            with noise.call(0):
                maps = explainer.maps(network, images, TARGETS)
            masks = explainer.masks(network, images, TARGETS)
        assert maps.dtype == torch.float32 and masks.isfinite().all()
        found.append(maps)
    torch.testing.assert_close(found[0].sum((1, 2)), found[1].sum((1, 2)))  # a map of gradcam may be zero
    similarity = bench.component("metric", "pearson")(clean_maps=found[1], attacked_maps=found[0])
    assert similarity.nanmean() > 0.97 and similarity.isnan().sum() <= 1


def test_a_map_of_small_numbers_keeps_them(dtype):
    attribution = torch.tensor([1e-7, 3e-7]).to(dtype).expand(1, 1, 224, 2)
    maps = bench.maps.reduce(attribution)
    shares = attribution[0, 0, 0].double() / attribution[0, 0, 0].double().sum() / 224
    torch.testing.assert_close(maps[0, 0].double(), shares, rtol=1e-5, atol=0)
    large = torch.full((1, 3, 224, 224), 60000.0).to(dtype)  # whose sum float16 does not hold
    torch.testing.assert_close(bench.maps.reduce(large).sum(), torch.tensor(1.0), rtol=1e-4, atol=0)


def size(moved, images, ball):
    change = (moved.double() - images.double()).flatten(1)
    return change.abs().amax(1) if ball.norm == "linf" else change.norm(dim=1)


@pytest.mark.parametrize("ball", BALLS, ids=str)
@pytest.mark.parametrize(
    "text",
    ["topk:k=5,steps=4", "pgd:steps=4", "target_map:steps=3", "random_search:queries=4", "uniform_noise", "sign_noise"],
)
def test_attacks_move_and_stay_in_the_ball(text, ball, half):
    network, images = half
    victim = bench.Victim(network, bench.component("explainer", "gradient"))
    moved = bench.component("attack", text).perturb(victim, images, TARGETS, ball)
    assert moved.dtype == images.dtype and moved.min() >= 0 and moved.max() <= 1
    assert (size(moved, images, ball) <= float(ball.eps)).all()
    assert not torch.equal(moved, images)
    if text == "pgd:steps=4":  # its last steps reach the surface
        assert (size(moved, images, ball) >= 0.97 * float(ball.eps)).all()


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_projections_in_half_precision_never_leave_the_ball(ball, dtype):
    generator = torch.Generator().manual_seed(0)
    origin = torch.rand(50, 3, 6, 6, generator=generator).to(dtype)
    origin[:, :, 0], origin[:, :, 1] = 0, 1
    for width in (0.01, 0.1, 2.0):
        moved = origin.float() + width * torch.randn(origin.shape, generator=generator)
        for given in (moved, moved.to(dtype)):
            inside = ball.project(given, origin)
            assert inside.dtype == dtype and inside.min() >= 0 and inside.max() <= 1
            assert (size(inside, origin, ball) <= float(ball.eps)).all()
            nearest = ball.project(given.double(), origin.double())
            assert (size(inside, nearest, ball) <= 0.5 * float(ball.eps)).all()
    assert torch.equal(ball.project(origin, origin), origin)
    assert (size(ball.sample(origin), origin, ball) <= float(ball.eps)).all()


@pytest.mark.parametrize("text", ["insertion:steps=4", "crc:draws=2", "infidelity:draws=2"])
def test_metrics_are_near_those_of_single_precision(text, half):
    scores = []
    for network, images in (half, single(half)):
        data = bench.Data(images.float(), TARGETS, ("a", "b", "c"))
        given = {"network": network, "images": images, "targets": TARGETS}
        given |= {} if "crc" in text else {"clean_attributions": images}
        given |= {} if "insertion" in text else {"seed": 0, "test_data": data}
        score = bench.component("metric", text)(**given)
        scores.append(score.values if isinstance(score, bench.Levels) else score)
    torch.testing.assert_close(*scores, rtol=0.1, atol=0.01)
