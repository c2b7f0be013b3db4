"""The contracts, seen to break: for each, components that do not keep it, and what their authors read."""

from __future__ import annotations

import dataclasses
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pluggy
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bench
from bench.engine.catalog import Catalog
from bench.gradients import input_gradient, softened
from bench.testing import TinyModel, checks, tiny_data
from bench.testing.checks import select_checks
from bench.testing.contracts import CONTRACTS


def define(kind, **members):
    """A component of a kind, called `broken`, with these members."""
    about = {"__doc__": "Broken on purpose.", "__module__": __name__, "name": "broken"}
    return dataclass(frozen=True)(type("Broken", (kind,), {**about, **members}))


def make_catalog(cls):
    """A catalog that holds one class."""
    catalog = Catalog(pluggy.PluginManager("bench"))
    catalog.components[cls.kind][cls.name] = cls
    return catalog


def find_failures(cls, text=None, contract=None):
    """What is wrong with a component, by contract in words; of all contracts, or of one."""
    selected = checks(cls.kind, text or cls.name, make_catalog(cls))
    selected = [check for check in selected if contract in (None, check.words)]
    found = {check.words: check.failure() for check in selected}
    return {words: why for words, why in found.items() if why}


# Explainers.


def gradient(self, network, images, targets):
    return input_gradient(network, images, targets)


def change_weights(self, network, images, targets):
    next(network.parameters()).data.mul_(1.01)
    return input_gradient(network, images, targets)


def leave_hook(self, network, images, targets):
    network.register_forward_hook(lambda *_: None)
    return input_gradient(network, images, targets)


def leave_in_train_mode(self, network, images, targets):
    network.train()
    return input_gradient(network, images, targets)


def run_in_train_mode(self, network, images, targets):
    network.train()
    found = input_gradient(network, images, targets)
    network.eval()
    return found


def unfreeze(self, network, images, targets):
    network.requires_grad_(True)
    return input_gradient(network, images, targets)


def write_into_images(self, network, images, targets):
    images.sub_(0.5)
    return images


def mark_images(self, network, images, targets):
    images.requires_grad_()
    return input_gradient(network, images, targets)


def switch_grad_mode(self, network, images, targets):
    torch.set_grad_enabled(True)
    return input_gradient(network, images, targets).detach()


def keep_a_graph(self, network, images, targets):
    with torch.enable_grad():
        inputs = images.detach().requires_grad_()
        return torch.autograd.grad(network(inputs).sum(), inputs, create_graph=True)[0]


def raise_error(self, network, images, targets):
    return F.linear(images, torch.zeros(2, 2, dtype=images.dtype))


class Inner(nn.Module):
    def forward(self, images):
        return nn.Linear(7, 7)(images)


def raise_in_torch(self, network, images, targets):
    return Inner()(images.float())


VALID = "returns valid attributions"
ALONE = "explains images independently"
STRANGE = "explains networks of strangers"
EXPLAINERS = {
    "knows one class": (
        lambda s, n, i, t: i - (n.mean if isinstance(n, bench.Normalised) else 0),
        STRANGE,
        "its maps of a network inside nn.Sequential are others",
    ),
    "overflows": (
        lambda s, n, i, t: i * (torch.nan if type(n).__name__ == "InFloat32" else 1),
        STRANGE,
        "maps of a network in half precision contain NaN or infinity",
    ),
    "nan": (lambda s, n, i, t: i * float("nan"), VALID, "the attribution contains NaN or infinity"),
    "zero": (lambda s, n, i, t: i * 0, VALID, "the attribution of an image is zero everywhere"),
    "shape": (
        lambda s, n, i, t: i.sum(1),
        VALID,
        "for images of shape (5, 3, 12, 12), attribute returned shape (5, 12, 12); return (B, C or 1, H, W)",
    ),
    "square": (
        lambda s, n, i, t: i[:, :1, :, :1].expand(-1, -1, -1, i.shape[2]),
        VALID,
        "for images of shape (5, 3, 12, 9), attribute returned shape (5, 1, 12, 12)",
    ),
    "None": (lambda s, n, i, t: None, VALID, "attribute returned a NoneType, not a tensor"),
    "float": (lambda s, n, i, t: i.float(), VALID, "images are torch.float64, but attribute returned torch.float32"),
    "double": (lambda s, n, i, t: i.double(), VALID, "images are torch.float32, but attribute returned torch.float64"),
    "torch's RNG": (lambda s, n, i, t: torch.rand_like(i), VALID, "it used torch's RNG; draw from bench.noise instead"),
    "numpy's RNG": (
        lambda s, n, i, t: i + np.random.rand(),
        VALID,
        "it used numpy's RNG; draw from bench.noise instead",
    ),
    "Python's RNG": (lambda s, n, i, t: i + random.random(), VALID, "it used Python's RNG; draw from bench.noise"),
    "own generator": (
        lambda s, n, i, t: torch.rand(i.shape, generator=torch.Generator().manual_seed(0)).to(i.dtype),
        ALONE,
        "the result of an image in a chunk of 1 differs from its result in a batch of 5, by up to",
    ),
    "counts its calls": (
        lambda s, n, i, t: i + len(CALLS.append(1) or CALLS),
        ALONE,
        "two runs with the same seed differ; draw from bench.noise alone",
    ),
    "batch": (lambda s, n, i, t: i - i.mean(), ALONE, "an image's result must not depend on the others"),
    "weights": (change_weights, VALID, "it changed the network's weights; work on a copy"),
    "hooks": (leave_hook, VALID, "it left the network's mode, hooks or requires_grad changed; restore them"),
    "mode": (leave_in_train_mode, VALID, "it left the network's mode, hooks or requires_grad changed; restore them"),
    "train mode": (run_in_train_mode, VALID, "it ran the network in train mode; leave the network in eval mode"),
    "requires_grad": (unfreeze, VALID, "it left the network's mode, hooks or requires_grad changed; restore them"),
    "in place": (write_into_images, VALID, "it changed its inputs (images, targets or maps) in place; work on a copy"),
    "marked": (mark_images, VALID, "it set requires_grad on the images passed to it; set it on images.detach()"),
    "grad mode": (switch_grad_mode, VALID, "it left grad mode changed; use `with torch.enable_grad():`"),
    "graph": (keep_a_graph, VALID, "the attribution keeps a graph under torch.no_grad()"),
    "no grad mode": (
        lambda s, n, i, t: torch.autograd.grad(n(i.detach().requires_grad_()).sum(), i)[0],
        VALID,
        "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn, test_testing.py:",
    ),
    "raises": (raise_error, VALID, f"test_testing.py:{raise_error.__code__.co_firstlineno + 1}"),
    "raises in torch": (raise_in_torch, VALID, f"test_testing.py:{Inner.forward.__code__.co_firstlineno + 1}"),
}
CALLS: list[int] = []


@pytest.mark.parametrize("case", EXPLAINERS)
def test_a_broken_explainer_is_told_why(case):
    attribute, contract, message = EXPLAINERS[case]
    with torch.enable_grad():  # put back what one of them leaves behind
        found = find_failures(define(bench.Explainer, attribute=attribute), contract=contract)
    assert contract in found and message in found[contract], found
    assert all("\n" not in why for why in found.values())


DIFFERENTIABLE = {
    "says no": (
        {"attribute": gradient},
        "differentiable is False, but its maps have a gradient; set differentiable = T",
    ),
    "cut": (
        {"attribute": lambda s, n, i, t: input_gradient(n, i, t).detach(), "differentiable": True},
        "differentiable is True, but its maps have no finite gradient on a softplus network",
    ),
    "wrong": (
        {"attribute": lambda s, n, i, t: i * input_gradient(n, i, t).detach(), "differentiable": True},
        "differentiable is True, but on a softplus network its maps have a slope of",
    ),
    "recomputed outside the mode": (
        {"attribute": lambda s, n, i, t: Recomputed.apply(i, n, t), "differentiable": True},
        "differentiable is True, but on a ReLU network under softened(20) its maps have a slope of",
    ),
}


class Recomputed(torch.autograd.Function):
    """Computes its forward again in backward, where nothing is softened any more."""

    @staticmethod
    def forward(ctx, images, network, targets):
        ctx.save_for_backward(images)
        ctx.rest = network, targets
        return input_gradient(network, images, targets).detach()

    @staticmethod
    def backward(ctx, grad):
        with torch.enable_grad():
            inputs = ctx.saved_tensors[0].detach().requires_grad_()
            found = input_gradient(ctx.rest[0], inputs, ctx.rest[1])
            return torch.autograd.grad(found, inputs, grad)[0], None, None


@pytest.mark.parametrize("case", DIFFERENTIABLE)
def test_what_an_explainer_says_of_its_gradient_is_looked_at(case):
    members, message = DIFFERENTIABLE[case]
    found = find_failures(define(bench.Explainer, **members))
    assert list(found) == ["is differentiable as declared"] and message in found["is differentiable as declared"], found


def test_a_mask_rule_that_does_not_exist_is_named():
    found = find_failures(define(bench.Explainer, attribute=gradient, differentiable=True, mask_rule="median"))
    assert found == {VALID: "mask_rule is 'median'; use one of percentile, minmax, none"}


# Attacks.


def climb(self, victim, images, targets, ball):
    moved = images.detach().clone().requires_grad_()
    with torch.enable_grad(), softened(20.0):
        (slope,) = torch.autograd.grad(self.make_objective(victim, images, targets)(moved).sum(), moved)
    return ball.project(images + float(ball.eps) * ball.steepest(slope), images)


def first_row(victim, images, targets):
    return lambda moved: victim.maps(moved, targets)[:, 0].sum(1)


def add_noise(self, victim, images, targets, ball):
    return ball.sample(images)


BALL = "stays in the ball"
BETA = {"__annotations__": {"beta": float}, "beta": bench.param(20.0, "sharpness")}
ATTACKS = {
    "knows one class": (
        {"perturb": lambda s, v, i, t, b: b.project(i + isinstance(v.network, bench.Normalised), i)},
        "attacks networks of strangers",
        "its images for a network inside nn.Sequential are others",
    ),
    "budget": (
        {"perturb": lambda s, v, i, t, b: (i + 0.25).clamp(0, 1)},
        BALL,
        r"an image leaves the ball linf:8/255 by 0\.2\d*; use ball.project\(moved, images\)",
    ),
    "norm": (
        {"perturb": lambda s, v, i, t, b: i + float(b.eps) * (0.9 - i).sign()},
        BALL,
        r"an image leaves the ball l2:1/2 by ",
    ),
    "eps zero": (
        {"perturb": lambda s, v, i, t, b: bench.Ball(b.norm, max(b.eps, b.eps.__class__(1, 255))).sample(i)},
        BALL,
        "an image leaves the ball linf:0 by 0.0039",
    ),
    "nan": ({"perturb": lambda s, v, i, t, b: i * float("nan")}, BALL, "an attacked image contains NaN or infinity"),
    "lost a row": (
        {"perturb": lambda s, v, i, t, b: i[1:]},
        BALL,
        r"for images of shape \(5, 3, 12, 12\), perturb returned shape \(4, 3, 12, 12\)",
    ),
    "None": ({"perturb": lambda s, v, i, t, b: None}, BALL, "perturb returned a NoneType, not a tensor"),
    "dtype": (
        {"perturb": lambda s, v, i, t, b: b.sample(i).float()},
        BALL,
        "images are torch.float64, but perturb returned torch.float32",
    ),
    "idle": ({"perturb": lambda s, v, i, t, b: i}, BALL, "it changes no image within the ball linf:8/255"),
    "still": ({"perturb": lambda s, v, i, t, b: b.sample(i), "moves": False}, BALL, "its class says moves = False"),
    "torch's RNG": (
        {"perturb": lambda s, v, i, t, b: b.project(i + torch.randn_like(i), i)},
        BALL,
        "it used torch's RNG; draw from bench.noise instead",
    ),
    "in place": ({"perturb": lambda s, v, i, t, b: i.add_(0.001)}, BALL, "it changed its inputs .* in place"),
    "train mode": (
        {"perturb": lambda s, v, i, t, b: (v.network.train(), b.sample(i))[1]},
        BALL,
        "it left the network's mode, hooks or requires_grad changed; restore them",
    ),
    "batch": (
        {"perturb": lambda s, v, i, t, b: b.project(i + i.mean() * (i - i.mean()).sign(), i)},
        "attacks images independently",
        "an image's result must not depend on the others",
    ),
    "climbs": (
        {"perturb": climb, "make_objective": lambda s, v, i, t: first_row(v, i, t), **BETA},
        "lowers its objective",
        "the objective of an image is higher after the attack than before",
    ),
    "still objective": (
        {"perturb": add_noise, "make_objective": lambda s, v, i, t: lambda moved: moved.new_zeros(len(moved)), **BETA},
        "lowers its objective",
        "its objective is no lower after the attack than before",
    ),
    "one number": (
        {"perturb": add_noise, "make_objective": lambda s, v, i, t: lambda moved: moved.sum(), **BETA},
        "lowers its objective",
        r"for 5 images, its objective has shape \(\), not \(5,\)",
    ),
    "no beta": (
        {
            "perturb": lambda s, *given: bench.component("attack", "topk:k=5,steps=4").perturb(*given),
            "make_objective": lambda s, *given: bench.component("attack", "topk:k=5").make_objective(*given),
        },
        "lowers its objective",
        "no gradient on a ReLU network; give the attack a parameter beta",
    ),
}


@pytest.mark.parametrize("case", ATTACKS)
def test_a_broken_attack_is_told_why(case):
    members, contract, message = ATTACKS[case]
    found = find_failures(define(bench.Attack, **members), contract=contract)
    assert contract in found and re.search(message, found[contract]), found


def test_an_attack_that_leaves_the_picture_is_told_so():
    def perturb(self, victim, images, targets, ball):
        return images - float(ball.eps)

    dark = define(bench.Attack, perturb=perturb)
    # The tiny images keep away from 0 by more than most budgets: here they are moved to it.
    with pytest.MonkeyPatch.context() as patch:
        black = torch.zeros(5, 3, 12, 12).double(), torch.arange(5) % 3
        patch.setattr("bench.testing.contracts.attack.tiny_images", lambda: black)
        assert find_failures(dark)[BALL] == "an attacked image leaves [0, 1]; use ball.project(moved, images)"


# Metrics.


def distance(clean_maps, attacked_maps):
    defined = clean_maps.flatten(1).any(1) & attacked_maps.flatten(1).any(1)
    return torch.where(defined, (clean_maps - attacked_maps).abs().sum((1, 2)), torch.nan)


EACH = "scores images independently"
SAME = "is best for identical maps"
METRICS = {
    "direction": (
        lambda self, clean_maps, attacked_maps: distance(clean_maps, attacked_maps),
        SAME,
        r"better is 'higher', but a map scores 0 against itself and 0\.\d+ against another",
    ),
    "zero maps": (
        lambda self, clean_maps, attacked_maps: 1 - (clean_maps - attacked_maps).abs().sum((1, 2)),
        "is undefined for zero maps",
        "where attacked_maps are zero it scores .*; return nan, since a zero map explains nothing",
    ),
    "mean": (lambda self, clean_maps: clean_maps.mean(), EACH, r"for 6 images, scores have shape \(\), not \(6,\)"),
    "text": (
        lambda self, kept: "fine",
        EACH,
        r"it returned a str; return a tensor \(N,\), bench.Levels, a number or bench.Undefined",
    ),
    "infinite": (
        lambda self, clean_maps: clean_maps.sum((1, 2)) / 0,
        EACH,
        "a score is infinite; return nan where it is undefined",
    ),
    "batch": (
        lambda self, clean_maps: clean_maps.flatten(1).amax(1) / clean_maps.max(),
        EACH,
        r"an image scores 1 alone and 0\.\d+ in a batch; the score of an image must not depend on the others",
    ),
    "levels": (
        lambda self, clean_maps: bench.Levels(clean_maps.sum(2), ("one", "two")),
        EACH,
        r"for 6 images and 2 levels, the values have shape \(6, 12\), not \(6, 2\)",
    ),
    "in place": (lambda self, clean_maps: clean_maps.mul_(2).amax((1, 2)), EACH, "it changed its inputs .* in place"),
    "counts its calls": (
        lambda self, kept: kept.double() * len(CALLS.append(1) or CALLS),
        EACH,
        "two runs on the same evidence with the same seed differ",
    ),
    "NaN spreads": (
        lambda self, clean_maps: clean_maps.amax((1, 2)) + clean_maps.isnan().any(),
        "is undefined for undefined evidence",
        "NaN in the clean_maps of one image changes the scores of the others",
    ),
    "raises": (lambda self, clean_maps: {}["x"], EACH, r"KeyError: 'x', test_testing.py:\d+"),
}


@pytest.mark.parametrize("case", METRICS)
def test_a_broken_metric_is_told_why(case):
    call, contract, message = METRICS[case]
    found = find_failures(define(bench.Metric, __call__=call, help="broken"), contract=contract)
    assert contract in found and re.search(message, found[contract]), found


def test_metrics_that_keep_the_contracts_in_other_ways():
    far = define(
        bench.Metric, __call__=lambda self, clean_maps, attacked_maps: distance(clean_maps, attacked_maps), help="x"
    )
    assert list(find_failures(far)) == [SAME]
    assert not find_failures(define(bench.Metric, __call__=far.__call__, help="x", better="lower"))
    assert not find_failures(define(bench.Metric, __call__=lambda self, training: 3.0, help="x"))
    assert not find_failures(define(bench.Metric, __call__=lambda self, kept: bench.Undefined("nothing"), help="x"))
    levels = define(
        bench.Metric, __call__=lambda self, clean_maps: bench.Levels(clean_maps.sum(2)[:, :2], ("a", "b")), help="x"
    )
    assert not find_failures(levels)
    assert not find_failures(
        define(bench.Metric, __call__=lambda self, network, explain: torch.ones(3), help="only a run tells")
    )


# Defenses.


def cross_entropy(network, batch):
    return F.cross_entropy(network(batch.images), batch.labels)


def remember(self, fit):
    seen = []

    def loss(network, batch):
        seen.append(1)
        return cross_entropy(network, batch) * len(seen)

    return fit.minimise(fit.fresh(), loss)


def forget_in_the_second_phase(self, fit):
    first = fit.minimise(fit.fresh(), cross_entropy, name="first")
    steps = []

    def loss(network, batch):
        steps.append(1)
        return cross_entropy(network, batch) * len(steps)

    return fit.minimise(first, loss, name="second")


def train_the_last_layer(self, fit):
    network = fit.fresh()
    network.network[:-1].requires_grad_(False)
    return fit.minimise(network, cross_entropy)


def change_the_architecture(self, fit):
    network = fit.fresh()
    network.network[-1] = nn.Identity()
    return fit.minimise(network, cross_entropy)


def draw_from_torch_and_train(self, fit):
    torch.rand(3)
    return fit.minimise(fit.fresh(), cross_entropy)


def train_differently(self, fit):
    CALLS.append(1)
    return fit.minimise(fit.fresh(), lambda network, batch: cross_entropy(network, batch) * (1 + len(CALLS) % 7))


def count_odd_and_even(self, fit):
    calls = []

    def loss(network, batch):
        calls.append(1)
        return cross_entropy(network, batch) * (1 + len(calls) % 2)

    return fit.minimise(fit.fresh(), loss)


AGAIN, RESUMES = "trains all weights reproducibly", "resumes where it stopped"
DEFENSES = {
    "nothing": (lambda s, fit: fit.fresh(), AGAIN, "train did not call fit.minimise, so nothing was trained"),
    "None": (
        lambda s, fit: fit.minimise(fit.fresh(), cross_entropy) and None,
        AGAIN,
        "train returned a NoneType; return the network that fit.minimise returns",
    ),
    "a loss of no weights": (
        lambda s, fit: fit.minimise(fit.fresh(), lambda n, b: n(b.images).sum() * 0),
        AGAIN,
        "training does not change the weight network.0.weight",
    ),
    "last layer": (train_the_last_layer, AGAIN, "training does not change the weight network.0.weight"),
    "architecture": (
        change_the_architecture,
        AGAIN,
        "train returned a network of another architecture than fit.fresh()",
    ),
    "nan": (
        lambda s, fit: fit.minimise(fit.fresh(), lambda n, b: n(b.images).sum() * float("nan")),
        AGAIN,
        "the loss is nan at step 1 of epoch 1 (train)",
    ),
    "no graph": (
        lambda s, fit: fit.minimise(fit.fresh(), lambda n, b: n(b.images).detach().sum()),
        AGAIN,
        "RuntimeError: element 0 of tensors does not require grad",
    ),
    "torch's RNG": (draw_from_torch_and_train, AGAIN, "it used torch's RNG; draw from bench.noise instead"),
    "differs": (
        train_differently,
        AGAIN,
        "two trainings with the same seed differ in network.0.weight; draw from bench.noise",
    ),
    "forgets": (
        remember,
        RESUMES,
        "stops in phase 'train' and resumes ends with a different network.0.weight; keep in",
    ),
    "forgets whether a step is odd": (
        count_odd_and_even,
        RESUMES,
        "stops in phase 'train' and resumes ends with a different network.0.weight; keep in",
    ),
    "forgets later": (forget_in_the_second_phase, RESUMES, "stops in phase 'second' and resumes ends with a different"),
}


@pytest.mark.parametrize("case", DEFENSES)
def test_a_broken_defense_is_told_why(case):
    train, contract, message = DEFENSES[case]
    found = find_failures(define(bench.Defense, train=train), contract=contract)
    assert contract in found and message in found[contract], found


# Models.


class Once(nn.Module):
    """Takes a part of its answer from the whole batch."""

    def forward(self, images):
        return nn.functional.pad(images.flatten(1)[:, :7] - images.mean(), (0, 0))


def normalise(network):
    return bench.Normalised(network, [0.5] * 3, [0.25] * 3)


def build_differently(self, shape, classes):
    torch.seed()
    return TinyModel().build(shape, classes)


LOGITS, SMOOTH = "maps images to logits", "is smooth as declared"
MODELS = {
    "normalises outside": (
        lambda s, shape, classes: TinyModel().build(shape, classes).network,
        LOGITS,
        "build returned a Sequential, not a bench.Normalised, which takes images in [0, 1]",
    ),
    "std zero": (
        lambda s, shape, classes: bench.Normalised(TinyModel().build(shape, classes).network, [0.0] * 3, [0.0] * 3),
        LOGITS,
        "the std of the normalisation is not above 0",
    ),
    "classes": (
        lambda s, shape, classes: TinyModel().build(shape, 10),
        LOGITS,
        "for 3 images and 7 classes, logits have shape (3, 10)",
    ),
    "nan": (
        lambda s, shape, classes: normalise(nn.Sequential(TinyModel().build(shape, classes).network, Log())),
        LOGITS,
        "logits contain NaN or infinity",
    ),
    "blind": (
        lambda s, shape, classes: normalise(nn.Sequential(nn.Flatten(), Zero(), nn.Linear(3 * 32 * 32, classes))),
        LOGITS,
        "two images have the same logits: the network ignores its input",
    ),
    "batch": (lambda s, shape, classes: normalise(Once()), LOGITS, "different logits alone and in a batch"),
    "seed": (build_differently, LOGITS, "two networks built with the same seed differ"),
    "smooth": (
        lambda s, shape, classes: TinyModel().build(shape, classes),
        SMOOTH,
        "smooth is False, but its second derivative is not zero",
    ),
}


class Log(nn.Module):
    def forward(self, logits):
        return (logits * 0 - 1).log()


class Zero(nn.Module):
    def forward(self, rows):
        return rows * 0


@pytest.mark.parametrize("case", MODELS)
def test_a_broken_model_is_told_why(case):
    build, contract, message = MODELS[case]
    found = find_failures(define(bench.Model, build=build), contract=contract)
    assert contract in found and message in found[contract], found


def test_a_network_of_one_linear_layer_is_a_model_and_not_smooth():
    def build(self, shape, classes):
        return normalise(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, classes)))

    assert not find_failures(define(bench.Model, build=build))
    found = find_failures(define(bench.Model, build=build, smooth=True))
    assert found == {SMOOTH: "smooth is True, but its second derivative is zero"}


# Schedules.


@dataclass(frozen=True)
class Plain(bench.Schedule):
    """A schedule without a mistake."""

    name = "broken"
    epochs: int = 3
    batch: int = 6
    optimiser: Literal["adam", "adamw", "sgd"] = "sgd"
    rate: float = 0.1
    weight_decay: float = 0.0
    decay: tuple[int, ...] = (2,)
    augmentation: Literal["none", "crop_flip"] = "none"
    clipping: float = 0.0
    limit: int = 0


@pytest.mark.parametrize(
    ("text", "contract", "message"),
    [
        ("broken:decay=(3,1)", "trains a network", "decay is (3, 1); give epochs in increasing order"),
        ("broken:rate=0", "trains a network", "training with it changes no weight"),
        ("broken:rate=1e30", "trains a network", "the loss is nan at step 2 of epoch 1"),
    ],
)
def test_a_broken_schedule_is_told_why(text, contract, message):
    assert not find_failures(Plain)
    found = find_failures(Plain, text, contract)
    assert message in found[contract]


# Data sets.


class Jointly:
    """Images that depend on which others they are read with."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        return self.images[rows] * 0.9 + 0.1 * self.images[rows].mean()


def change_images(change):
    return lambda self, split: dataclasses.replace(
        tiny_data(), images=change(tiny_data().images, split), object_masks=None, gaze=None
    )


def draw_from_torch(self, split):
    torch.rand(1)
    return tiny_data()


DATASETS = {
    "scaled": (change_images(lambda i, s: i * 255), "images of train range from 25.5 to 229, not within [0, 1]"),
    "normalised": (change_images(lambda i, s: i - 0.5), "leave normalisation to the network"),
    "one row": (
        change_images(lambda i, s: torch.where(torch.arange(24).view(-1, 1, 1, 1) == 14, i + 1, i)),
        "not within [0, 1]",
    ),
    "nan": (change_images(lambda i, s: i * float("nan")), "images of train range from nan to nan, not within [0, 1]"),
    "double": (change_images(lambda i, s: i.double()), "images of train are torch.float64, not float32"),
    "bytes": (change_images(lambda i, s: (i * 255).byte()), "images of train are torch.uint8, not float32"),
    "one channel short": (
        change_images(lambda i, s: i[:, 0]),
        "images[rows] of train has shape (16, 12, 12) for 16 rows; return (n, C, H, W)",
    ),
    "empty": (change_images(lambda i, s: i[:0]), "no split has any images"),
    "jointly": (change_images(lambda i, s: Jointly(i)), "an image of train depends on which are read with it"),
    "leak": (change_images(lambda i, s: i), "train and test contain the same images"),
    "tuple": (lambda s, split: (1, 2), "load returned a tuple, not a bench.Data"),
    "RNG": (draw_from_torch, "it used torch's RNG; draw from bench.noise instead"),
    "random": (
        change_images(lambda i, s: i * (0.5 + 0.5 / len(CALLS.append(1) or CALLS))),
        "loading train twice gives different images",
    ),
    "other provides": (lambda s, split: tiny_data(), "provides lists labels, but train has gaze, labels, object_masks"),
    "int32": (
        lambda s, split: dataclasses.replace(
            tiny_data(), object_masks=None, gaze=None, labels=tiny_data().labels.int()
        ),
        "labels of train are torch.int32, not int64",
    ),
    "labels": (
        lambda s, split: dataclasses.replace(tiny_data(), object_masks=None, gaze=None, labels=tiny_data().labels + 1),
        "labels of train range from 1 to 3, not within 0 to 2 for 3 classes",
    ),
    "fewer labels": (
        lambda s, split: dataclasses.replace(tiny_data(), object_masks=None, gaze=None, labels=tiny_data().labels[:20]),
        "train has 20 labels for 24 images",
    ),
}


@pytest.mark.parametrize("case", DATASETS)
def test_a_broken_data_set_is_told_why(case):
    load, message = DATASETS[case]
    found = find_failures(define(bench.Dataset, load=load))
    assert message in found["loads images and labels"], found


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (lambda m: m[:, :6], "object_masks[rows] of train has shape (16, 6, 12), not (16, 12, 12)"),
        (lambda m: -m, "object_masks of train has values outside [0, 1], or NaN"),
    ],
)
def test_masks_that_do_not_fit_are_named(masks, message):
    def load(self, split):
        data = tiny_data()
        return dataclasses.replace(data, gaze=None, object_masks=masks(data.object_masks))

    found = find_failures(define(bench.Dataset, load=load, provides=frozenset({"labels", "object_masks"})))
    assert found == {"loads images and labels": message}


# All kinds.


def define_explainer(**members):
    return define(bench.Explainer, attribute=gradient, differentiable=True, **members)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"__doc__": None}, "it has no docstring"),
        ({"version": "1.0"}, "version is '1.0'; use a whole number of at least 1"),
        ({"paper": "Deep Maps, 2024"}, "paper is 'Deep Maps, 2024'; use a bench.Paper, or leave it out"),
        (
            {"__annotations__": {"power": float}, "power": bench.param(1.0)},
            "parameter power has no help; declare it with bench.param(default, help)",
        ),
    ],
)
def test_a_component_that_does_not_say_what_it_is(members, message):
    assert find_failures(define_explainer(**members)) == {"describes itself": message}


def test_a_metric_needs_help_and_a_direction():
    def call(self, kept):
        return kept.double()

    assert "it has no help" in find_failures(define(bench.Metric, __call__=call))["describes itself"]
    found = find_failures(define(bench.Metric, __call__=call, help="x", better="up"))
    assert found["describes itself"] == "better is 'up'; use 'higher' or 'lower'"


def test_a_text_form_that_does_not_read_back_is_told():
    wrong = define_explainer(__annotations__={"power": float}, power=bench.param(1.0, "a power"))
    wrong.__str__ = lambda self: "broken:power=3"
    assert find_failures(wrong) == {
        "reads back from its text": "its text form broken:power=3 reads back as broken:power=3"
    }


def test_an_example_that_cannot_be_read_is_one_failure():
    members = {"__annotations__": {"power": float}, "power": bench.param(1.0, "a power", low=0)}
    (check,) = checks("explainer", "broken", make_catalog(define_explainer(examples=("power=-1",), **members)))
    assert check.failure() == "explainer broken: power is -1.0, must be a number of at least 0"


# Which checks there are.

POWER = {"__annotations__": {"power": float}, "power": bench.param(1.0, "a power", low=0)}
NEEDY = {"__annotations__": {"path": Path}, "path": bench.param(help="a file")}


def test_the_public_names_of_version_0_1_are_still_there():
    tiny = {"TinyModel", "TinySchedule", "tiny_data", "tiny_evidence", "tiny_fit", "tiny_images", "tiny_network"}
    assert set(bench.testing.__all__) >= tiny | {"Check", "ContractBroken", "checks", "named"}
    assert bench.testing.named is select_checks and all(hasattr(bench.testing, name) for name in bench.testing.__all__)


def test_contracts_run_where_on_device_says(tmp_path):
    with bench.testing.on_device("meta"):
        made = [*bench.testing.tiny_images(), *bench.testing.tiny_network(smooth=True).parameters()]
        made += bench.testing.tiny_fit(tmp_path).fresh().parameters()
        assert {tensor.device.type for tensor in made} == {"meta"}
        assert tiny_data().images.device.type == "cpu"  # where data sets are loaded
    assert bench.testing.tiny_images()[0].device.type == "cpu"


def list_texts(cls, name):
    return list(dict.fromkeys(check.text for check in checks("explainer", name, make_catalog(cls))))


def test_a_name_with_parameters_is_the_only_text():
    cls = define_explainer(examples=("power=2", "power=3"), **POWER)
    assert list_texts(cls, "broken") == ["broken:power=2", "broken:power=3"]
    assert list_texts(cls, "broken:power=4") == ["broken:power=4.0"]
    with pytest.raises(bench.BadValue, match="power is 'x', must be a number of at least 0"):
        list_texts(cls, "broken:power=x")


@pytest.mark.parametrize("examples", [(), ("",)])
def test_required_parameters_without_examples_have_to_be_given(examples):
    cls = define_explainer(examples=examples, **NEEDY)
    message = "explainer broken has no examples to check and requires path; give values, as in explainer:broken:path="
    with pytest.raises(bench.BadValue, match=message):
        list_texts(cls, "broken")
    assert list_texts(cls, "broken:path=x") == ["broken:path=x"]
    assert checks("explainer", None, make_catalog(cls)) == checks(None, None, make_catalog(cls)) == []
    assert select_checks("explainer", make_catalog(cls))[1][0].startswith(message)


def test_a_component_without_examples_is_checked_by_name():
    cls = define_explainer(examples=())
    assert list_texts(cls, "broken") == ["broken"]
    found, left_out = select_checks(None, make_catalog(cls))
    assert (found, left_out) == ([], ["explainer broken has no examples; check it by name, as explainer:broken"])


def test_every_contract_is_seen_to_break():
    """The tables above, by contract: one that no component breaks may not be there for nothing."""
    source = Path(__file__).read_text()
    for contracts in CONTRACTS.values():
        for contract in contracts:
            assert f'"{contract.__name__.replace("_", " ")}"' in source, contract.__name__
