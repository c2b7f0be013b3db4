"""Explainers that cover, differ and optimise, beside captum, scipy and slow single-image forms; in float64."""

from __future__ import annotations

import dataclasses
import json

import captum.attr
import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from bench_explainers.mask import adam, blur, move
from test_sanity import Patches
from torch import nn
from torch.testing import assert_close

import bench
from bench import noise
from bench.engine import runner
from bench.engine.cells import list_cells
from bench.gradients import Passes, input_gradient
from bench.testing import TinyModel, tiny_data, tiny_fit, tiny_images, tiny_network

IMAGES, TARGETS = tiny_images(3)


def attributed(text, network, images=IMAGES, targets=TARGETS, prepared=None, rows=(0, 1, 2)):
    explainer = bench.component("explainer", text)
    with torch.no_grad(), noise.rows(0, "test", rows):
        return explainer.attributions(network, images, targets, prepared)


class Plain(nn.Module):
    """Convolutions, ReLUs of their own and poolings, as captum asks for."""

    def __init__(self, activation=nn.ReLU, pool=nn.AvgPool2d):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.layers = nn.Sequential(
                nn.Conv2d(3, 5, 3, padding=1),
                activation(),
                pool(2),
                nn.Conv2d(5, 6, 3),
                activation(),
                pool(2),
                nn.Flatten(),
                nn.Linear(24, 8),
                activation(),
                nn.Linear(8, 3),
            ).double()
        self.eval().requires_grad_(False)

    def forward(self, images):
        return self.layers(images)


class Shared(nn.Module):
    """One activation called twice, once as a function and in place, a branch added and batch norm."""

    def __init__(self, smooth):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(4)
            self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
            self.norm, self.last = nn.BatchNorm2d(6), nn.Linear(6, 3)
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2)
        self.act = nn.Softplus(2.0) if smooth else nn.ReLU()
        self.double().eval().requires_grad_(False)

    def forward(self, images):
        hidden = self.act(self.first(images))
        hidden = hidden + self.act(self.norm(self.second(hidden)))
        hidden = F.softplus(hidden) if isinstance(self.act, nn.Softplus) else F.relu(hidden, inplace=True)
        return self.last(F.avg_pool2d(F.max_pool2d(hidden, 3, 2, 1), 6).flatten(1))


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
@pytest.mark.parametrize("baseline", ["mean", "black"])
def test_deeplift_equals_captum_on_relu_networks(baseline):
    network = bench.Normalised(Plain(), [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]).double().eval().requires_grad_(False)
    start = (network.mean if baseline == "mean" else torch.zeros(3, 1, 1)).double().expand_as(IMAGES)
    theirs = captum.attr.DeepLift(network).attribute(IMAGES.clone().requires_grad_(), start.clone(), target=TARGETS)
    assert_close(attributed(f"deeplift:baseline={baseline}", network), theirs.detach())


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
def test_deeplift_through_max_pooling_equals_captum_where_that_adds_up():
    """Beside an activation captum 0.9 takes the plain gradient of a max-pooling; of windows that overlap it counts
    one."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        layers = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(100, 3)
    network = nn.Sequential(*layers).double().eval().requires_grad_(False)
    start = torch.zeros_like(IMAGES)
    theirs = captum.attr.DeepLift(network).attribute(IMAGES.clone().requires_grad_(), start, target=TARGETS).detach()
    change = (network(IMAGES) - network(start)).gather(1, TARGETS[:, None])[:, 0]
    assert_close(theirs.sum((1, 2, 3)), change)
    assert_close(attributed("deeplift:baseline=black", network), theirs)


@pytest.mark.parametrize(
    "network", [Plain(nn.Softplus), Plain(pool=nn.MaxPool2d), Shared(True), Shared(False), tiny_network(True)]
)
def test_deeplift_adds_up_to_the_difference_of_the_logits(network):
    for baseline in ("mean", "black"):
        start = bench.normalisation(network)[0] if baseline == "mean" else torch.zeros(3, 1, 1).double()
        with torch.no_grad():
            change = (network(IMAGES) - network(start.expand_as(IMAGES))).gather(1, TARGETS[:, None])[:, 0]
        assert_close(attributed(f"deeplift:baseline={baseline}", network).sum((1, 2, 3)), change)


def test_deeplift_takes_the_derivative_where_nothing_differs():
    network = tiny_network(True)
    images = network.mean.expand_as(IMAGES).clone()
    images[:, :, 5, 5] += 0.1
    found = attributed("deeplift", network, images)
    assert found.isfinite().all() and not found[:, :, 0, 0].any()


@pytest.mark.parametrize("window, stride", [(4, 2), (5, 3), (3, 3), (12, 1), (20, 4)])
def test_occlusion_equals_captum(window, stride):
    network = tiny_network(True)
    found = attributed(f"occlusion:window={window},stride={stride},fill=black", network)
    size = min(window, 12)
    theirs = captum.attr.Occlusion(network).attribute(IMAGES, (3, size, size), (3, stride, stride), 0.0, TARGETS)
    assert found.shape == (3, 1, 12, 12)
    assert_close(found.expand_as(IMAGES), theirs.double(), rtol=1e-5, atol=1e-6)  # in single precision
    with pytest.raises(bench.BadValue, match="stride is 5, and windows of 4 leave gaps; give at most 4"):
        bench.component("explainer", "occlusion:window=4,stride=5")


def test_edges_are_those_of_scipy_and_know_nothing_of_the_network():
    found = attributed("edge_map", tiny_network(True))
    for i in range(3):
        grey = IMAGES[i].mean(0).numpy()
        slopes = [scipy.ndimage.sobel(grey, axis, mode="nearest") for axis in (0, 1)]
        assert_close(found[i, 0], torch.from_numpy(np.hypot(*slopes)))
    assert torch.equal(found, attributed("edge_map", tiny_network(False)))
    assert not attributed("edge_map", tiny_network(True), torch.full_like(IMAGES, 0.5)).any()


def test_vargrad_is_the_variance_over_smoothgrads_copies():
    network = tiny_network(True)
    found = attributed("vargrad:samples=6,noise=0.2", network)
    for i in range(3):
        slopes = []
        with noise.rows(0, "test", [i]), noise.call():
            for draw in range(6):
                with noise.repeat(range(draw, draw + 1)):
                    width = 0.2 * (IMAGES[i].max() - IMAGES[i].min())
                    copy = IMAGES[i : i + 1] + width * noise.normal(IMAGES[i : i + 1])
                slopes.append(input_gradient(network, copy, TARGETS[i : i + 1]).detach()[0])
        assert_close(found[i], torch.stack(slopes).var(0, unbiased=False))


def test_expected_gradients_beside_a_slow_loop_and_nearly_complete():
    network = tiny_network(True)
    explainer = bench.component("explainer", "expected_gradients:samples=5,references=7")
    data = tiny_data()
    prepared = {"references": data.at(data.choice(7)).images.double()}
    assert torch.equal(explainer.prepare(network, data, None)["references"].double(), prepared["references"])
    found = attributed("expected_gradients:samples=5,references=7", network, prepared=prepared)
    for i in range(3):
        total = torch.zeros(3, 12, 12).double()
        with noise.rows(0, "test", [i]), noise.call():
            for draw in range(5):
                with noise.repeat(range(draw, draw + 1)):
                    chosen, share = noise.uniform(IMAGES.new_empty(1, 2), 0, 1)[0]
                start = prepared["references"][int(chosen * 7)]
                slope = input_gradient(network, (start + share * (IMAGES[i] - start))[None], TARGETS[i : i + 1])
                total += (IMAGES[i] - start) * slope.detach()[0] / 5
        assert_close(found[i], total)
    many = attributed("expected_gradients:samples=4000,references=7", network, prepared=prepared)
    with torch.no_grad():
        change = network(IMAGES) - network(prepared["references"]).mean(0)
    assert_close(many.sum((1, 2, 3)), change.gather(1, TARGETS[:, None])[:, 0], rtol=0.1, atol=0.02)
    with pytest.raises(bench.BadValue, match="learns from data first; pass what its prepare returned"):
        attributed("expected_gradients", network)


def relex(network, image, target, i, steps, samples, rate, momentum, sparsity=1e-4):
    """One image by the definition, a copy at a time."""
    mean, std = bench.normalisation(network)
    objective, normal = [], (image - mean) / std
    width = 0.1 * (normal.max() - normal.min())
    with noise.rows(0, "test", [i]), noise.call():
        mask = noise.uniform(image[None], 0, 0.01)[0]
        speed = torch.zeros_like(image)
        for _ in range(steps):
            leaf = mask.clone().requires_grad_()
            value = sparsity * leaf.abs().sum()
            with noise.call():
                for draw in range(samples):
                    with noise.repeat(range(draw, draw + 1)):
                        copy = normal + width * noise.normal(image[None])[0]
                    kept, gone = (network((mean + std * m * copy)[None]).softmax(1)[0] for m in (leaf, 1 - leaf))
                    value = value - (kept[target].log() + (1 - gone[target] + 1e-7).log()) / samples
            (slope,) = torch.autograd.grad(value, leaf)
            objective.append(float(value.detach()))
            speed = momentum * speed + slope / slope.norm()
            mask = (mask - rate * speed).clamp(0, 1)
    return mask, objective


@pytest.mark.parametrize("smooth", [True, False])
def test_relex_beside_a_slow_single_image_form(smooth):
    network = tiny_network(smooth)
    found = attributed("relex:steps=6,samples=3", network)
    for i in range(3):
        expected, objective = relex(network, IMAGES[i], int(TARGETS[i]), i, 6, 3, 0.1, 0.99)
        assert_close(found[i], expected, atol=1e-9, rtol=1e-6)
        assert objective[-1] < objective[0]
    paper = bench.component("explainer", "relex:lim2021")
    assert not paper.fresh
    assert (paper.rate, paper.momentum, paper.samples) == (0.001, 0, 100)


def test_relex_as_printed_keeps_one_batch_of_copies():
    network = tiny_network(True)
    found = attributed("relex:steps=6,samples=3,fresh=false", network)
    mean, std = bench.normalisation(network)
    for i in range(3):
        normal, speed = (IMAGES[i] - mean) / std, 0
        with noise.rows(0, "test", [i]), noise.call():
            mask = noise.uniform(IMAGES[i : i + 1], 0, 0.01)[0]
            with noise.call(), noise.repeat(range(3)):
                drawn = noise.normal(IMAGES[i : i + 1].repeat(3, 1, 1, 1))
        copies = normal + 0.1 * (normal.max() - normal.min()) * drawn
        for _ in range(6):
            mask.requires_grad_()
            kept, gone = (network(mean + std * m * copies).softmax(1)[:, TARGETS[i]] for m in (mask, 1 - mask))
            objective = -(kept.log() + (1 - gone + 1e-7).log()).mean() + 1e-4 * mask.abs().sum()
            (slope,) = torch.autograd.grad(objective, mask)
            speed = 0.99 * speed + slope / slope.norm()
            mask = (mask.detach() - 0.1 * speed).clamp(0, 1)
        assert_close(found[i], mask, atol=1e-9, rtol=1e-6)
    assert not torch.allclose(found, attributed("relex:steps=6,samples=3", network))


def test_relex_costs_two_passes_a_copy_and_step_and_survives_a_gradient_of_zero():
    network = tiny_network(True)
    with Passes() as passes, passes.watch(network):
        attributed("relex:steps=4,samples=3", network)
    assert (passes.forwards, passes.backwards) == (8, 4)  # three images and three copies in one batch
    network.network[-1].weight.data.zero_()
    flat = attributed("relex:steps=3,samples=2,sparsity=0", network)
    assert flat.isfinite().all() and flat.max() < 0.01


def test_what_an_explainer_learns_is_stored_once_and_serves_as_a_surrogate(tiny_run, store):
    options = {"explainer": ["expected_gradients:samples=2,references=4"], "defense": ["ce"]}
    outcome = tiny_run(metric=["topk_overlap", "rps:draws=1", "class_retrieval:explained=own"], **options)
    assert not outcome.failures
    assert len(list(store.list_folders("prepared"))) == 1
    surrogate = {**options, "explainer": ["gradient"], "surrogate": options["explainer"]}
    assert not tiny_run(metric=["topk_overlap"], **surrogate).failures
    assert len(list(store.list_folders("prepared"))) == 1


def test_an_explainer_that_prepares_nothing_is_told(tmp_path):
    fit = tiny_fit(str(tmp_path))
    assert not bench.component("explainer", "gradient").prepares
    assert bench.component("explainer", "gradient").prepare(tiny_network(True), fit.data, fit) == {}


def test_masks_objective_beside_a_slow_form_and_falling():
    network = tiny_network(True)
    explainer = bench.component("explainer", "mask:cells=6,smooth=0,jitter=0,variation=0.3,sparsity=0.02")
    hidden = torch.rand(3, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(3, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = explainer.objective(network, IMAGES, hidden, TARGETS, mask)
    for i in range(3):
        cells = mask[i, 0]
        rough = sum(
            abs(float(cells[r, c] - cells[s, d])) ** 3
            for r in range(6)
            for c in range(6)
            for s, d in ((r + 1, c), (r, c + 1))
            if s < 6 and d < 6
        )
        whole = F.interpolate(cells[None, None], (12, 12), mode="bilinear", align_corners=False)[0]
        shown = whole * IMAGES[i] + (1 - whole) * hidden[i]
        probability = float(network(shown[None]).softmax(1)[0, TARGETS[i]])
        assert float(found[i]) == pytest.approx(probability + 0.02 * float((1 - cells).sum()) + 0.3 * rough)
    network.network[-1].weight.data.mul_(30)  # sure of itself, as trained networks are
    plain = bench.component("explainer", "mask:cells=8,jitter=0,steps=1")
    hidden = blur(IMAGES, plain.blur * 12)
    objective = []
    for steps in (1, 60):
        found = attributed(f"mask:cells=12,smooth=0,jitter=0,steps={steps}", network)
        assert found.shape == (3, 1, 12, 12) and found.min() >= 0 and found.max() <= 1
        kept = bench.component("explainer", "mask:cells=12,smooth=0,jitter=0")
        objective.append(kept.objective(network, IMAGES, hidden, TARGETS, 1 - found))
    assert (objective[1] < objective[0]).all()


@pytest.mark.parametrize("text", ["relex:steps=4,samples=3", "mask:steps=4,cells=6"])
def test_unrolled_maps_are_the_same_and_have_a_gradient(text):
    network = tiny_network(True)
    plain, unrolled = (bench.component("explainer", each) for each in (text, f"{text},unrolled=true"))
    expected = attributed(text, network)
    assert torch.equal(attributed(f"{text},unrolled=true", network), expected)
    leaf = IMAGES.clone().requires_grad_()
    with noise.rows(0, "test", (0, 1, 2)):
        found = unrolled.attributions(network, leaf, TARGETS)
    assert torch.equal(found, expected) and torch.autograd.grad(found.square().sum(), leaf)[0].any()
    with noise.rows(0, "test", (0, 1, 2)):
        assert not plain.attributions(network, leaf, TARGETS).requires_grad
    assert (plain.differentiable, unrolled.differentiable) == (False, True)


def test_masks_step_is_that_of_torchs_adam():
    values, generator = torch.rand(5, generator=torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1)
    theirs = values.clone().requires_grad_()
    optimiser = torch.optim.Adam([theirs], 0.1)
    first = second = torch.zeros(5)
    for number in range(1, 6):
        slope = theirs.grad = torch.randn(5, generator=generator)
        optimiser.step()
        values, first, second = adam(values, first, second, slope, 0.1, number)
        assert torch.equal(values, theirs)


def test_moves_and_blurs_are_mirrored():
    with noise.rows(0, "moves", range(200)):
        drawn = noise.uniform(torch.empty(200, 2), 0, 1)
    places = move(torch.arange(144.0).view(1, 1, 12, 12).expand(200, 1, 12, 12), 2, drawn)[:, 0, 6, 6]
    assert set(places.int().tolist()) == {12 * r + c for r in range(4, 9) for c in range(4, 9)}
    expected = scipy.ndimage.gaussian_filter(IMAGES[0, 0].numpy(), 1.0, mode="mirror", radius=3)
    assert_close(blur(IMAGES, 1.0)[0, 0], torch.from_numpy(expected))


def test_rtsals_loss_by_hand():
    class Logits(nn.Module):
        """The mean of each channel is the logit of its class."""

        def forward(self, images):
            return images.mean((2, 3)) * 10

    images = torch.zeros(2, 3, 8, 8, dtype=torch.float64)
    images[:, 0] = 1
    explainer = bench.component("explainer", "rtsal:area=2,smoothness=3")
    masks = torch.ones(2, 1, 4, 4, dtype=torch.float64)
    black = type("Black", (type(explainer),), {"canvas": lambda self, images: torch.zeros_like(images)})
    labels, true = torch.tensor([0, 1]), torch.tensor([True, False])
    found = black(area=2, smoothness=3).loss(Logits(), images, labels, true, masks)
    # A mask of ones costs its area; of the true label all is kept (10 against 0), and nothing is left to lose from.
    assert float(found) == pytest.approx((2 + (0 + 1) + 2) / 2, abs=1e-5)
    half = masks.clone()
    half[:, :, :, 2:] = 0
    found = black(area=2, smoothness=0).loss(Logits(), images[:1], labels[:1], true[:1], half[:1])
    # Bilinear halves: 5 of 10 is kept, which is wanted, and 5 of 10 is left where 1 less than nothing is wanted.
    assert float(found) == pytest.approx(2 * 0.5**0.3 + (5 + 1), abs=1e-5)


@pytest.mark.slow
def test_rtsal_learns_to_mask_the_object(catalog, store, tiny_case):
    case = dataclasses.replace(
        tiny_case,
        dataset=Patches(),
        model=TinyModel(),
        schedule=bench.component("schedule", "quick:epochs=20,batch=10,rate=0.003,decay=(18)"),
        samples=60,
    )
    metrics = [bench.component("metric", "mask_mass")]
    scores = {}
    for text in ("rtsal:width=8", "random_map"):
        # Of three seeds, since rounding decides how far so short a training comes.
        cases = [dataclasses.replace(case, explainer=bench.component("explainer", text), seed=n) for n in range(3)]
        outcome = runner.run_cells(list_cells(catalog, cases, metrics), catalog, store, torch.device("cpu"))
        assert not outcome.failures
        scores[text] = [record.value for record in outcome.records.values()]
    assert max(scores["rtsal:width=8"]) > 2 * max(scores["random_map"])
    assert sum(scores["rtsal:width=8"]) > 1.3 * sum(scores["random_map"])
    folder, *_ = store.list_folders("prepared")
    assert [row["name"] for row in json.loads((folder / "cost.json").read_text())] == ["selector", "masker"]
