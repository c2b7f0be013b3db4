"""What is known of a network's normalisation: its own, through wrappers, as its first layer sees it, or as given."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision import transforms

import bench

MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.2, 0.3]
TARGETS = torch.tensor([0, 2])


@pytest.fixture
def images():
    return torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def body():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(144, 3))


def frozen(network):
    return network.double().eval().requires_grad_(False)


def known():
    return frozen(bench.Normalised(body(), MEAN, STD))


class Wrapper(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.wrapped = network

    def forward(self, images):
        return {"logits": self.wrapped(images)}["logits"]


WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "Sequential": nn.Sequential,
    "a class": Wrapper,
    "several": lambda network: nn.Sequential(Wrapper(nn.DataParallel(network)), nn.Identity()),
    "an average": lambda network: torch.optim.swa_utils.AveragedModel(network),
}


class Own(nn.Module):
    """A network that prepares its images in its own way."""

    def __init__(self, prepare):
        super().__init__()
        self.prepare, self.body = prepare, body()

    def forward(self, images):
        return self.body(self.prepare(images))


def numbers(values, like):
    return torch.tensor(values).to(like).view(-1, 1, 1)


def batch_norm():
    layer = nn.BatchNorm2d(3, eps=0.0, affine=False)
    layer.running_mean, layer.running_var = torch.tensor(MEAN), torch.tensor(STD).square()
    return layer


OWN = {
    "minus and divided": lambda x: (x - numbers(MEAN, x)) / numbers(STD, x),
    "in place": lambda x: x.sub_(numbers(MEAN, x)).div_(numbers(STD, x)),
    "times and plus": lambda x: x * (1 / numbers(STD, x)) - numbers(MEAN, x) / numbers(STD, x),
    "bytes": lambda x: (255 * x - 255 * numbers(MEAN, x)) / (255 * numbers(STD, x)),
    "torchvision": transforms.Normalize(MEAN, STD),
    "batch norm": batch_norm(),
    "each channel": lambda x: torch.stack([(x[:, i] - MEAN[i]) / STD[i] for i in range(3)], 1),
}


def check(found, expected=(MEAN, STD)):
    for values, right in zip(found, expected, strict=True):
        assert_close(values.double().flatten(), torch.tensor(right, dtype=torch.float64), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_are_looked_through(name, images):
    network = WRAPPERS[name](known())
    check(bench.normalisation(network))
    same_as_known(network, images)


@pytest.mark.parametrize("name", OWN)
def test_the_first_layer_shows_a_normalisation(name, images):
    network = frozen(Own(OWN[name]))
    check(bench.normalisation(network, images))
    same_as_known(network, images)


def same_as_known(network, images):
    """All that starts from the mean colour, or works in normalised space, is as on the suite's own network."""
    data = bench.Data(images, TARGETS, ("a", "b", "c"))
    for text in (
        *("integrated_gradients:steps=3", "deeplift", "occlusion:window=4,stride=4", "input_x_gradient"),
        *("moreau_grad:steps=2,average=1,samples=2", "relex:steps=2,samples=2"),
    ):
        explainer = bench.component("explainer", text)
        with torch.no_grad():
            found, expected = (explainer.attribute(n, images, TARGETS) for n in (network, known()))
        assert_close(found, expected, rtol=1e-5, atol=1e-7)
    for text in ("insertion:steps=3", "infidelity:draws=2,perturbation=square"):
        metric = bench.component("metric", text)
        given = {"images": images, "targets": TARGETS, "clean_attributions": images}
        given |= {"seed": 0, "test_data": data} if "infidelity" in text else {}
        found, expected = (metric(network=n, **given) for n in (network, known()))
        values = [score.values if isinstance(score, bench.Levels) else score for score in (found, expected)]
        assert_close(*values, rtol=1e-5, atol=1e-7)


def test_other_first_layers(images):
    flat = nn.Sequential(transforms.Normalize(MEAN, STD), nn.Flatten(), nn.Linear(192, 3)).double()
    check(bench.normalisation(flat, images))
    padded = nn.Sequential(transforms.Normalize(MEAN, STD), nn.ZeroPad2d(2), nn.Conv2d(3, 4, 3)).double()
    check(bench.normalisation(padded, images))
    check(
        bench.normalisation(frozen(Own(lambda x: (x.flip(1) - 0.5) / numbers(STD, x))), images), ([0.5] * 3, STD[::-1])
    )
    check(bench.normalisation(frozen(Own(lambda x: x)), images), ([0.0] * 3, [1.0] * 3))
    check(bench.normalisation(frozen(Own(lambda x: 2 * x - 1)), images), ([0.5] * 3, [0.5] * 3))
    half = frozen(Own(OWN["minus and divided"])).half()
    for values, right in zip(bench.normalisation(half, images.half()), (MEAN, STD), strict=True):
        assert_close(values.flatten().float(), torch.tensor(right), rtol=0.01, atol=0.01)


def hidden(images):
    return images.pow(2)


def test_what_cannot_be_seen_is_said_and_can_be_given(images):
    with warnings.catch_warnings(action="ignore"):
        scripted = torch.jit.trace(known(), images)
    two = Wrapper(nn.ModuleList([known(), frozen(bench.Normalised(body(), STD, STD))]))
    two.forward = lambda images: sum(part(images) for part in two.wrapped)
    message = (
        r"the network's normalisation cannot be seen, so the mean colour is taken for black; give normalisation=\("
    )
    for network in (scripted, frozen(Own(hidden)), two):
        with pytest.warns(UserWarning, match=message):
            bench.component("explainer", "occlusion").attribute(network, images, TARGETS)
    given = {"normalisation": (MEAN, STD)}
    explainer = bench.component("explainer", "integrated_gradients:steps=3")
    with torch.no_grad():
        expected = explainer.maps(known(), images, TARGETS)
        assert_close(explainer.maps(scripted, images, TARGETS, **given), expected, rtol=1e-5, atol=1e-7)
        found = explainer.attribute(scripted, images, TARGETS, normalisation=(torch.tensor(MEAN), torch.tensor(STD)))
        assert_close(found, explainer.attribute(known(), images, TARGETS), rtol=1e-5, atol=1e-7)
        victim = bench.Victim(frozen(Own(hidden)), explainer, normalisation=(MEAN, STD))
        assert victim.maps(images, TARGETS).any()
    insertion, clean = bench.component("metric", "insertion:steps=3"), {"images": images, "targets": TARGETS}
    scores = [
        insertion(network=n, clean_attributions=images, **clean, **more)
        for n, more in ((scripted, given), (known(), {}))
    ]
    assert_close(scores[0].values, scores[1].values, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "wrong", [([0.5], [0.5, 0.5]), (0.5,), ([0.5] * 3, [0.0] * 3), ([0.5] * 4, [0.5] * 4), 0.5, "rgb"]
)
def test_a_normalisation_has_a_number_for_each_channel(wrong, images):
    message = "give \\(mean, std\\), with one number for each of the 3 channels in both"
    with pytest.raises(bench.BadValue, match=message):
        bench.component("explainer", "occlusion").attribute(known(), images, TARGETS, normalisation=wrong)
