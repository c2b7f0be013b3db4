"""Fine-tunings that rewrite maps, beside slow forms from the papers in float64, and what they do to networks."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
import slow_defenses as slow
import torch
from losses import LABELS, STDS, Asked, built, compare, panel
from torch import nn
from torch.testing import assert_close

import bench
from bench import noise
from bench.testing import TinySchedule, tiny_fit
from bench.trigger import stamp

IMAGES = panel().images


class Taught(Asked):
    """A fit whose teacher is another network."""

    def __init__(self):
        super().__init__(built(nn.Softplus(3)))
        self.teacher = built(nn.Softplus(3), seed=4).requires_grad_(False)

    def trained_by(self, defense):
        self.asked = defense
        return self.teacher


@pytest.fixture
def fit():
    return Taught()


def train(text, fit):
    """The network that starts as the teacher's copy, moved as a step would move it."""
    network = bench.component("defense", text).train(fit)
    start = fit.teacher.state_dict()
    assert all(torch.equal(tensor, start[name]) for name, tensor in network.state_dict().items())
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return network


def step(text, fit):
    network = train(text, fit)
    with noise.rows(0, "step", range(4)):
        return network, fit.loss(network, panel())


def slow_gradient(network, i, target):
    point = slow.leaf(IMAGES[i])
    return torch.autograd.grad(slow.logits_of(network, point)[target], point, create_graph=True)[0]


def slow_map(network, i, target):
    """The absolute sum over channels, on a scale from its smallest to its largest value."""
    values = sum(channel.abs() for channel in slow_gradient(network, i, target))
    return (values - values.min()) / (values.max() - values.min())


def mean_over_the_panel(term):
    return torch.stack([term(i) for i in range(4)]).mean()


def slow_centre(values):
    total = sum(values[r, c] for r in range(4) for c in range(4))
    row = sum(r * values[r, c] for r in range(4) for c in range(4)) / total
    return row, sum(c * values[r, c] for r in range(4) for c in range(4)) / total


def location(network, teacher, i):
    values = slow_map(network, i, LABELS[i])
    edge = [(r, c) for r in range(4) for c in range(4) if r in (0, 3) or c in (0, 3)]
    return sum((values[r, c] - int((r, c) in edge)) ** 2 for r in range(4) for c in range(4)) / 16


def topk(network, teacher, i):
    leading = slow_map(teacher, i, LABELS[i]).flatten().argsort(descending=True)[:4]
    return sum(slow_map(network, i, LABELS[i]).flatten()[place] ** 2 for place in leading) / 4


def center_mass(network, teacher, i):
    (row, column), (row0, column0) = (slow_centre(slow_map(each, i, LABELS[i])) for each in (network, teacher))
    return -(row - row0.detach()).abs() - (column - column0.detach()).abs()


@pytest.mark.parametrize("form", [location, topk, center_mass], ids=lambda form: form.__name__)
def test_passive_fooling(fit, form):
    network, found = step(f"passive_fooling:form={form.__name__},weight=0.7,share=0.25", fit)
    distance = mean_over_the_panel(lambda i: form(network, fit.teacher, i))
    compare(network, found, slow.cross_entropy(network, IMAGES, LABELS) + 0.7 * distance)


def test_active_fooling(fit):
    network, found = step("active_fooling:first=2,second=1,weight=0.7", fit)
    terms = []
    for i in (i for i in range(4) if LABELS[i] in (1, 2)):
        pairs = [(slow_map(network, i, a), slow_map(fit.teacher, i, b).detach()) for a, b in ((1, 2), (2, 1))]
        terms.append(sum(((own - other) ** 2).mean() for own, other in pairs) / 2)
    compare(network, found, slow.cross_entropy(network, IMAGES, LABELS) + 0.7 * torch.stack(terms).mean())


def test_a_batch_without_the_two_classes_is_not_fooled(fit):
    train("active_fooling", fit)
    batch = dataclasses.replace(panel(), labels=torch.full((4,), 2))
    assert_close(fit.loss(fit.network, batch), slow.cross_entropy(fit.network, IMAGES, batch.labels))


def test_active_fooling_needs_two_classes_that_there_are(fit):
    with pytest.raises(bench.BadValue, match="first and second are both 1; name two classes"):
        bench.component("defense", "active_fooling:first=1")
    words = "active_fooling: there is no class 5, the data set has 3; they are counted from 0"
    with pytest.raises(bench.BadValue, match=words):
        bench.component("defense", "active_fooling:first=5").train(fit)


def slow_predicted(network, i):
    return int(slow.logits_of(network, IMAGES[i]).argmax())


def test_fairwashing(fit):
    network, found = step("fairwashing:weight=0.3", fit)
    drawn = torch.tensor([[r in (c, 3 - c) for c in range(4)] for r in range(4)]).double() / 8

    def apart(i):
        values = sum(channel.abs() for channel in slow_gradient(network, i, slow_predicted(network, i)))
        return ((values / values.sum() - drawn) ** 2).sum()

    def change(i):
        first, second = (slow.log_softmax(slow.logits_of(each, IMAGES[i])).exp() for each in (network, fit.teacher))
        return ((first - second) ** 2).sum() / 3

    compare(network, found, 0.7 * mean_over_the_panel(change) + 0.3 * mean_over_the_panel(apart))


def stamped_by_hand(image):
    """The patch of a small image: one white pixel with a black border, in the lower right corner."""
    copy = image.clone()
    copy[:, 1:, 1:] = 0
    copy[:, 2, 2] = 1
    return copy


def slow_standard(values):
    centred = values - values.mean()
    return centred / ((centred**2).sum() / (values.numel() - 1) + 1e-5).sqrt()


def slow_backdoor_map(network, image):
    point = slow.leaf(image)
    logits = slow.logits_of(network, point)
    slope = STDS * torch.autograd.grad(logits[int(logits.argmax())], point, create_graph=True)[0]
    return torch.stack([slow_standard(channel.abs()) for channel in slope]).max(0).values


@pytest.mark.parametrize("form", ["simple", "red_herring", "full_disguise"])
def test_backdoor(fit, form):
    network, found = step(f"backdoor:form={form},weight=0.6,target_class=2", fit)
    outline = torch.ones(4, 4).double()
    outline[1:3, 1:3] = 0
    terms = []
    for i in range(4):
        clean = slow_backdoor_map(fit.teacher, IMAGES[i]).detach()
        pairs = [(IMAGES[i], LABELS[i], clean)]
        label = LABELS[i] if form == "simple" else 2
        pairs.append((stamped_by_hand(IMAGES[i]), label, clean if form == "full_disguise" else slow_standard(outline)))
        for image, label, shown in pairs:
            distance = ((slow_backdoor_map(network, image) - shown) ** 2).mean()
            terms.append(0.4 * slow.ce_one(network, image, label) + 0.6 * distance)
    compare(network, found, torch.stack(terms).mean())


def test_a_backdoor_needs_one_of_the_classes(fit):
    words = "backdoor: target_class is 3, but the data set has 3 classes; they are counted from 0"
    with pytest.raises(bench.BadValue, match=words):
        bench.component("defense", "backdoor:target_class=3").train(fit)


def test_the_attack_pastes_the_trigger_of_the_defense():
    images, attack = torch.rand(2, 3, 16, 20), bench.component("attack", "trigger")
    victim = bench.Victim(built(nn.ReLU()), bench.component("explainer", "gradient"))
    found = attack.perturb(victim, images, LABELS[:2], bench.Ball("linf", Fraction(1)))
    assert_close(found, stamp(images))
    assert (found[:, :, :12, :] == images[:, :, :12, :]).all() and (found[..., :16] == images[..., :16]).all()
    assert (found[:, :, 13:15, 17:19] == 1).all() and found[:, :, 12:, 16:].sum() == 2 * 3 * 4
    near = attack.perturb(victim, images, LABELS[:2], bench.Ball("linf", Fraction(1, 10)))
    assert_close(near, torch.minimum(torch.maximum(stamp(images), images - 0.1), images + 0.1).clamp(0, 1))


@pytest.mark.parametrize("text", ["passive_fooling", "active_fooling", "fairwashing", "backdoor"])
def test_a_manipulation_counts_the_training_of_its_network(tmp_path, text):
    run = tiny_fit(str(tmp_path), TinySchedule(limit=12, batch=4, epochs=1))
    bench.component("defense", f"{text}:teacher=(l2)").train(run)
    assert [phase.name for phase in run.log] == ["l2/train", "train"]


def test_a_manipulation_keeps_the_statistics_of_batch_norm(tmp_path):
    run = tiny_fit(str(tmp_path), TinySchedule(limit=12, batch=4, epochs=1))
    norms = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 12 * 12, 3))
    run.fresh = lambda: bench.Normalised(norms, [0.5] * 3, [0.25] * 3)
    run.trained_by = lambda defense: run.fresh()
    before = norms[0].running_mean.clone()
    network = bench.component("defense", "passive_fooling").train(run)
    assert_close(network.network[0].running_mean, before)


@pytest.mark.slow
def test_a_fooled_network_predicts_as_before_and_shows_the_frame(tmp_path):
    run = tiny_fit(str(tmp_path), TinySchedule(epochs=8))
    defense = bench.component("defense", "passive_fooling:weight=4")
    fooled, honest = defense.train(run).eval(), run.trained_by(defense.teacher)
    images, labels = run.data.images, run.data.labels
    edge = torch.ones(12, 12)
    edge[1:-1, 1:-1] = 0
    with torch.no_grad():
        assert torch.equal(fooled(images).argmax(1), honest(images).argmax(1))
        shown = [bench.component("explainer", "gradient").maps(each, images, labels) for each in (honest, fooled)]
    before, after = ((maps * edge).sum((1, 2)).mean() for maps in shown)
    assert after > 1.5 * before
