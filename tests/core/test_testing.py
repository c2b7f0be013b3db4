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
from bench.components.kinds import KINDS
from bench.engine.catalog import Catalog
from bench.gradients import input_gradient, softened
from bench.testing import TinyModel, checks, named, tiny_data
from bench.testing.contracts import CONTRACTS


def made(kind, **members):
    """A component of a kind, called `broken`, with these members."""
    about = {"__doc__": "Broken on purpose.", "__module__": __name__, "name": "broken"}
    return dataclass(frozen=True)(type("Broken", (kind,), {**about, **members}))


def alone(cls):
    """A catalog that holds one class."""
    catalog = Catalog(pluggy.PluginManager("bench"))
    catalog.components[cls.kind][cls.name] = cls
    return catalog


def failures(cls, text=None, contract=None):
    """What is wrong with a component, by contract in words; of all contracts, or of one."""
    asked = [check for check in checks(cls.kind, text or cls.name, alone(cls)) if contract in (None, check.words)]
    found = {check.words: check.failure() for check in asked}
    return {words: why for words, why in found.items() if why}


# Explainers.


def gradient(self, network, images, targets):
    return input_gradient(network, images, targets)


def changed_weights(self, network, images, targets):
    next(network.parameters()).data.mul_(1.01)
    return input_gradient(network, images, targets)


def left_hook(self, network, images, targets):
    network.register_forward_hook(lambda *_: None)
    return input_gradient(network, images, targets)


def left_in_train_mode(self, network, images, targets):
    network.train()
    return input_gradient(network, images, targets)


def ran_in_train_mode(self, network, images, targets):
    network.train()
    found = input_gradient(network, images, targets)
    network.eval()
    return found


def unfroze(self, network, images, targets):
    network.requires_grad_(True)
    return input_gradient(network, images, targets)


def wrote_into_images(self, network, images, targets):
    images.sub_(0.5)
    return images


def marked_images(self, network, images, targets):
    images.requires_grad_()
    return input_gradient(network, images, targets)


def switched_grad_mode(self, network, images, targets):
    torch.set_grad_enabled(True)
    return input_gradient(network, images, targets).detach()


def kept_a_graph(self, network, images, targets):
    with torch.enable_grad():
        inputs = images.detach().requires_grad_()
        return torch.autograd.grad(network(inputs).sum(), inputs, create_graph=True)[0]


def raised(self, network, images, targets):
    return F.linear(images, torch.zeros(2, 2, dtype=images.dtype))


class Inner(nn.Module):
    def forward(self, images):
        return nn.Linear(7, 7)(images)


def raised_in_torch(self, network, images, targets):
    return Inner()(images.float())


PIXELS = "attributes to pixels"
ALONE = "explains rows alone"
EXPLAINERS = {
    "nan": (lambda s, n, i, t: i * float("nan"), PIXELS, "the attribution is not finite"),
    "zero": (lambda s, n, i, t: i * 0, PIXELS, "the attribution of an image is zero everywhere"),
    "shape": (
        lambda s, n, i, t: i.sum(1),
        PIXELS,
        r"images (5, 3, 12, 12) give an attribution of (5, 12, 12); it is (B, C or 1, H, W)",
    ),
    "square": (
        lambda s, n, i, t: i[:, :1, :, :1].expand(-1, -1, -1, i.shape[2]),
        PIXELS,
        "images (5, 3, 12, 9) give an attribution of (5, 1, 12, 12)",
    ),
    "None": (lambda s, n, i, t: None, PIXELS, "attribute returned a NoneType, not a tensor"),
    "float": (lambda s, n, i, t: i.float(), PIXELS, "images in torch.float64 give an attribution in torch.float32"),
    "double": (lambda s, n, i, t: i.double(), PIXELS, "images in torch.float32 give an attribution in torch.float64"),
    "torch's RNG": (
        lambda s, n, i, t: torch.rand_like(i),
        PIXELS,
        "torch's RNG was used; draw from bench.noise instead",
    ),
    "numpy's RNG": (
        lambda s, n, i, t: i + np.random.rand(),
        PIXELS,
        "numpy's RNG was used; draw from bench.noise instead",
    ),
    "Python's RNG": (lambda s, n, i, t: i + random.random(), PIXELS, "Python's RNG was used; draw from bench.noise"),
    "own generator": (
        lambda s, n, i, t: torch.rand(i.shape, generator=torch.Generator().manual_seed(0)).to(i.dtype),
        ALONE,
        "an image in chunks of 1 gets another result than in a batch of 5",
    ),
    "counts its calls": (
        lambda s, n, i, t: i + len(CALLS.append(1) or CALLS),
        ALONE,
        "two runs under one seed differ; draw from bench.noise only",
    ),
    "batch": (lambda s, n, i, t: i - i.mean(), ALONE, "rows must not know of each other"),
    "weights": (changed_weights, PIXELS, "the network's weights were changed"),
    "hooks": (left_hook, PIXELS, "the network's mode, hooks or requires_grad are not as they were"),
    "mode": (left_in_train_mode, PIXELS, "the network's mode, hooks or requires_grad are not as they were"),
    "train mode": (ran_in_train_mode, PIXELS, "the network was run in train mode; it comes in eval mode"),
    "requires_grad": (unfroze, PIXELS, "the network's mode, hooks or requires_grad are not as they were"),
    "in place": (wrote_into_images, PIXELS, "what it was given (images, targets, maps) was changed in place"),
    "marked": (
        marked_images,
        PIXELS,
        "requires_grad was set on the images that it was given; set it on images.detach()",
    ),
    "grad mode": (switched_grad_mode, PIXELS, "grad mode is not as it was; change it by `with torch.enable_grad():`"),
    "graph": (kept_a_graph, PIXELS, "the attribution keeps a graph under torch.no_grad()"),
    "no grad mode": (
        lambda s, n, i, t: torch.autograd.grad(n(i.detach().requires_grad_()).sum(), i)[0],
        PIXELS,
        "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn, test_testing.py:",
    ),
    "raises": (raised, PIXELS, f"test_testing.py:{raised.__code__.co_firstlineno + 1}"),
    "raises in torch": (raised_in_torch, PIXELS, f"test_testing.py:{Inner.forward.__code__.co_firstlineno + 1}"),
}
CALLS: list[int] = []


@pytest.mark.parametrize("case", EXPLAINERS)
def test_a_broken_explainer_is_told_why(case):
    attribute, contract, message = EXPLAINERS[case]
    with torch.enable_grad():  # put back what one of them leaves behind
        found = failures(made(bench.Explainer, attribute=attribute), contract=contract)
    assert contract in found and message in found[contract], found
    assert all("\n" not in why for why in found.values())


DIFFERENTIABLE = {
    "says no": (
        {"attribute": gradient},
        "differentiable is False, but its maps have a gradient; say differentiable = T",
    ),
    "cut": (
        {"attribute": lambda s, n, i, t: input_gradient(n, i, t).detach(), "differentiable": True},
        "its maps have no finite gradient on a softplus network",
    ),
    "wrong": (
        {"attribute": lambda s, n, i, t: i * input_gradient(n, i, t).detach(), "differentiable": True},
        "differentiable is True, but on a softplus network the gradient of its maps gives",
    ),
    "recomputed outside the mode": (
        {"attribute": lambda s, n, i, t: Recomputed.apply(i, n, t), "differentiable": True},
        "differentiable is True, but on a ReLU network under softened(20) the gradient of its maps gives",
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
    found = failures(made(bench.Explainer, **members))
    assert list(found) == ["is differentiable as it says"] and message in found["is differentiable as it says"], found


def test_a_mask_rule_that_does_not_exist_is_named():
    found = failures(made(bench.Explainer, attribute=gradient, differentiable=True, mask_rule="median"))
    assert found == {PIXELS: "mask_rule is 'median'; it is one of percentile, minmax, none"}


# Attacks.


def climbs(self, victim, images, targets, ball):
    moved = images.detach().clone().requires_grad_()
    with torch.enable_grad(), softened(20.0):
        (slope,) = torch.autograd.grad(self.objective(victim, images, targets)(moved).sum(), moved)
    return ball.project(images + float(ball.eps) * ball.steepest(slope), images)


def first_row(victim, images, targets):
    return lambda moved: victim.maps(moved, targets)[:, 0].sum(1)


def noisy(self, victim, images, targets, ball):
    return ball.sample(images)


BALL = "stays in the ball"
BETA = {"__annotations__": {"beta": float}, "beta": bench.param(20.0, "sharpness")}
ATTACKS = {
    "budget": (
        {"perturb": lambda s, v, i, t, b: (i + 0.25).clamp(0, 1)},
        BALL,
        r"it goes 0\.2\d* beyond the ball linf:8/255; use ball.project\(moved, images\)",
    ),
    "norm": (
        {"perturb": lambda s, v, i, t, b: i + float(b.eps) * (0.9 - i).sign()},
        BALL,
        r"it goes .* beyond the ball l2:1/2",
    ),
    "eps zero": (
        {"perturb": lambda s, v, i, t, b: bench.Ball(b.norm, max(b.eps, b.eps.__class__(1, 255))).sample(i)},
        BALL,
        "it goes 0.0039 beyond the ball linf:0",
    ),
    "nan": ({"perturb": lambda s, v, i, t, b: i * float("nan")}, BALL, "an attacked image is not finite"),
    "lost a row": (
        {"perturb": lambda s, v, i, t, b: i[1:]},
        BALL,
        r"images \(5, 3, 12, 12\) come back as \(4, 3, 12, 12\)",
    ),
    "None": ({"perturb": lambda s, v, i, t, b: None}, BALL, "perturb returned a NoneType, not a tensor"),
    "dtype": (
        {"perturb": lambda s, v, i, t, b: b.sample(i).float()},
        BALL,
        "images in torch.float64 come back in torch.float32",
    ),
    "idle": ({"perturb": lambda s, v, i, t, b: i}, BALL, "it moves nothing in the ball linf:8/255"),
    "torch's RNG": (
        {"perturb": lambda s, v, i, t, b: b.project(i + torch.randn_like(i), i)},
        BALL,
        "torch's RNG was used; draw from bench.noise instead",
    ),
    "in place": ({"perturb": lambda s, v, i, t, b: i.add_(0.001)}, BALL, "was changed in place"),
    "train mode": (
        {"perturb": lambda s, v, i, t, b: (v.network.train(), b.sample(i))[1]},
        BALL,
        "the network's mode, hooks or requires_grad are not as they were",
    ),
    "batch": (
        {"perturb": lambda s, v, i, t, b: b.project(i + i.mean() * (i - i.mean()).sign(), i)},
        "attacks rows alone",
        "rows must not know of each other",
    ),
    "climbs": (
        {"perturb": climbs, "objective": lambda s, v, i, t: first_row(v, i, t), **BETA},
        "lowers its objective",
        "an image's objective is higher after the attack than before",
    ),
    "still objective": (
        {"perturb": noisy, "objective": lambda s, v, i, t: lambda moved: moved.new_zeros(len(moved)), **BETA},
        "lowers its objective",
        "its objective is no lower after the attack than before",
    ),
    "one number": (
        {"perturb": noisy, "objective": lambda s, v, i, t: lambda moved: moved.sum(), **BETA},
        "lowers its objective",
        r"its objective of 5 images has the shape \(\), not \(5,\)",
    ),
    "no beta": (
        {
            "perturb": lambda s, *given: bench.component("attack", "topk:k=5,steps=4").perturb(*given),
            "objective": lambda s, *given: bench.component("attack", "topk:k=5").objective(*given),
        },
        "lowers its objective",
        "no gradient on a ReLU network; give it a parameter beta",
    ),
}


@pytest.mark.parametrize("case", ATTACKS)
def test_a_broken_attack_is_told_why(case):
    members, contract, message = ATTACKS[case]
    found = failures(made(bench.Attack, **members), contract=contract)
    assert contract in found and re.search(message, found[contract]), found


def test_an_attack_that_leaves_the_picture_is_told_so():
    def perturb(self, victim, images, targets, ball):
        return images - float(ball.eps)

    dark = made(bench.Attack, perturb=perturb)
    # The tiny images keep away from 0 by more than most budgets: here they are moved to it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "bench.testing.contracts.tiny_images", lambda: (torch.zeros(5, 3, 12, 12).double(), torch.arange(5) % 3)
        )
        assert failures(dark)[BALL] == "its images leave [0, 1]; use ball.project(moved, images)"


# Metrics.


def distance(clean_maps, attacked_maps):
    defined = clean_maps.flatten(1).any(1) & attacked_maps.flatten(1).any(1)
    return torch.where(defined, (clean_maps - attacked_maps).abs().sum((1, 2)), torch.nan)


EACH = "scores every image alone"
SAME = "is best where maps are the same"
METRICS = {
    "direction": (
        lambda self, clean_maps, attacked_maps: distance(clean_maps, attacked_maps),
        SAME,
        r"better is 'higher', but a map scores 0 beside itself and 0\.\d+ beside another",
    ),
    "zero maps": (
        lambda self, clean_maps, attacked_maps: 1 - (clean_maps - attacked_maps).abs().sum((1, 2)),
        "is undefined where a map is zero",
        "where attacked_maps are zero it scores .*: such a map explains nothing, and its score is nan",
    ),
    "mean": (lambda self, clean_maps: clean_maps.mean(), EACH, r"6 images give scores of shape \(\), not \(6,\)"),
    "text": (
        lambda self, kept: "fine",
        EACH,
        r"it returned a str; return a tensor \(N,\), bench.Levels, a number or bench.Undefined",
    ),
    "infinite": (
        lambda self, clean_maps: clean_maps.sum((1, 2)) / 0,
        EACH,
        "a score is infinite; use nan where it is undefined",
    ),
    "batch": (
        lambda self, clean_maps: clean_maps.flatten(1).amax(1) / clean_maps.max(),
        EACH,
        r"an image alone scores 1 and 0\.\d+ in a batch; rows must not know of each other",
    ),
    "levels": (
        lambda self, clean_maps: bench.Levels(clean_maps.sum(2), ("one", "two")),
        EACH,
        r"6 images and 2 levels give values \(6, 12\), not \(6, 2\)",
    ),
    "in place": (lambda self, clean_maps: clean_maps.mul_(2).amax((1, 2)), EACH, "was changed in place"),
    "counts its calls": (
        lambda self, kept: kept.double() * len(CALLS.append(1) or CALLS),
        EACH,
        "two scores of the same evidence under one seed differ",
    ),
    "raises": (lambda self, clean_maps: {}["x"], EACH, r"KeyError: 'x', test_testing.py:\d+"),
}


@pytest.mark.parametrize("case", METRICS)
def test_a_broken_metric_is_told_why(case):
    call, contract, message = METRICS[case]
    found = failures(made(bench.Metric, __call__=call, help="broken"), contract=contract)
    assert contract in found and re.search(message, found[contract]), found


def test_metrics_that_keep_the_contracts_in_other_ways():
    far = made(
        bench.Metric, __call__=lambda self, clean_maps, attacked_maps: distance(clean_maps, attacked_maps), help="x"
    )
    assert list(failures(far)) == [SAME]
    assert not failures(made(bench.Metric, __call__=far.__call__, help="x", better="lower"))
    assert not failures(made(bench.Metric, __call__=lambda self, training: 3.0, help="x"))
    assert not failures(made(bench.Metric, __call__=lambda self, kept: bench.Undefined("nothing"), help="x"))
    levels = made(
        bench.Metric, __call__=lambda self, clean_maps: bench.Levels(clean_maps.sum(2)[:, :2], ("a", "b")), help="x"
    )
    assert not failures(levels)
    assert not failures(
        made(bench.Metric, __call__=lambda self, network, explain: torch.ones(3), help="only a run tells")
    )


# Defenses.


def cross_entropy(network, batch):
    return F.cross_entropy(network(batch.images), batch.labels)


def remembers(self, fit):
    seen = []

    def loss(network, batch):
        seen.append(1)
        return cross_entropy(network, batch) * len(seen)

    return fit.minimise(fit.fresh(), loss)


def forgets_in_its_second_phase(self, fit):
    first = fit.minimise(fit.fresh(), cross_entropy, name="first")
    steps = []

    def loss(network, batch):
        steps.append(1)
        return cross_entropy(network, batch) * len(steps)

    return fit.minimise(first, loss, name="second")


def trains_the_last_layer(self, fit):
    network = fit.fresh()
    network.network[:-1].requires_grad_(False)
    return fit.minimise(network, cross_entropy)


def another_architecture(self, fit):
    network = fit.fresh()
    network.network[-1] = nn.Identity()
    return fit.minimise(network, cross_entropy)


def draws_for_all(self, fit):
    torch.rand(3)
    return fit.minimise(fit.fresh(), cross_entropy)


def differs(self, fit):
    CALLS.append(1)
    return fit.minimise(fit.fresh(), lambda network, batch: cross_entropy(network, batch) * (1 + len(CALLS) % 7))


AGAIN, ON = "trains every weight again the same", "goes on where it was stopped"
DEFENSES = {
    "nothing": (lambda s, fit: fit.fresh(), AGAIN, "nothing was trained: train must call fit.minimise"),
    "None": (
        lambda s, fit: fit.minimise(fit.fresh(), cross_entropy) and None,
        AGAIN,
        "train returned a NoneType; return the network that fit.minimise gives",
    ),
    "a loss of no weights": (
        lambda s, fit: fit.minimise(fit.fresh(), lambda n, b: n(b.images).sum() * 0),
        AGAIN,
        "training leaves the weight network.0.weight where it was",
    ),
    "last layer": (trains_the_last_layer, AGAIN, "training leaves the weight network.0.weight where it was"),
    "architecture": (another_architecture, AGAIN, "it returns another architecture than fit.fresh() gives"),
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
    "torch's RNG": (draws_for_all, AGAIN, "torch's RNG was used; draw from bench.noise instead"),
    "differs": (differs, AGAIN, "two trainings under one seed differ in network.0.weight; draw from bench.noise"),
    "forgets": (remembers, ON, "a training that was stopped in 'train' and went on ends with another network.0.weight"),
    "forgets later": (forgets_in_its_second_phase, ON, "stopped in 'second' and went on ends with another"),
}


@pytest.mark.parametrize("case", DEFENSES)
def test_a_broken_defense_is_told_why(case):
    train, contract, message = DEFENSES[case]
    found = failures(made(bench.Defense, train=train), contract=contract)
    assert contract in found and message in found[contract], found


# Models.


class Once(nn.Module):
    """Takes a part of its answer from the whole batch."""

    def forward(self, images):
        return nn.functional.pad(images.flatten(1)[:, :7] - images.mean(), (0, 0))


def normalised(network):
    return bench.Normalised(network, [0.5] * 3, [0.25] * 3)


def sometimes(self, shape, classes):
    torch.seed()
    return TinyModel().build(shape, classes)


LOGITS, SMOOTH = "maps images to logits", "is smooth as it says"
MODELS = {
    "normalises outside": (
        lambda s, shape, classes: TinyModel().build(shape, classes).network,
        LOGITS,
        "build returns a Sequential, not a bench.Normalised; networks normalise inside themselves",
    ),
    "std zero": (
        lambda s, shape, classes: bench.Normalised(TinyModel().build(shape, classes).network, [0.0] * 3, [0.0] * 3),
        LOGITS,
        "mean or std of the normalisation is impossible",
    ),
    "classes": (
        lambda s, shape, classes: TinyModel().build(shape, 10),
        LOGITS,
        "3 images and 7 classes give logits of (3, 10), not (3, 7)",
    ),
    "nan": (
        lambda s, shape, classes: normalised(nn.Sequential(TinyModel().build(shape, classes).network, Log())),
        LOGITS,
        "logits are not finite",
    ),
    "blind": (
        lambda s, shape, classes: normalised(nn.Sequential(nn.Flatten(), Zero(), nn.Linear(3 * 32 * 32, classes))),
        LOGITS,
        "two images have the same logits: it does not look at them",
    ),
    "batch": (lambda s, shape, classes: normalised(Once()), LOGITS, "an image alone has other logits than in a batch"),
    "seed": (sometimes, LOGITS, "two networks built under one seed differ"),
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
    found = failures(made(bench.Model, build=build), contract=contract)
    assert contract in found and message in found[contract], found


def test_a_network_of_one_linear_layer_is_a_model_and_not_smooth():
    def build(self, shape, classes):
        return normalised(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, classes)))

    assert not failures(made(bench.Model, build=build))
    found = failures(made(bench.Model, build=build, smooth=True))
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
        ("broken:decay=(3,1)", "is a schedule", "decay points (3, 1) do not increase"),
        ("broken:rate=0", "is a schedule", "training under it changes no weight"),
        ("broken:rate=1e30", "is a schedule", "the loss is nan at step 2 of epoch 1"),
    ],
)
def test_a_broken_schedule_is_told_why(text, contract, message):
    assert not failures(Plain)
    found = failures(Plain, text, contract)
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


def images_made(change):
    return lambda self, split: dataclasses.replace(
        tiny_data(), images=change(tiny_data().images, split), object_masks=None, gaze=None
    )


def drew(self, split):
    torch.rand(1)
    return tiny_data()


DATASETS = {
    "scaled": (images_made(lambda i, s: i * 255), "images of train leave [0, 1]: from"),
    "normalised": (images_made(lambda i, s: i - 0.5), "networks normalise inside themselves"),
    "one row": (
        images_made(lambda i, s: torch.where(torch.arange(24).view(-1, 1, 1, 1) == 14, i + 1, i)),
        "images of train leave [0, 1]",
    ),
    "nan": (images_made(lambda i, s: i * float("nan")), "images of train leave [0, 1]: from nan to nan"),
    "double": (images_made(lambda i, s: i.double()), "images of train are torch.float64, not float32"),
    "bytes": (images_made(lambda i, s: (i * 255).byte()), "images of train are torch.uint8, not float32"),
    "one channel short": (
        images_made(lambda i, s: i[:, 0]),
        "images[rows] of train has the shape (16, 12, 12) for 16 rows; it is (n, C, H, W)",
    ),
    "empty": (images_made(lambda i, s: i[:0]), "no split has any images"),
    "jointly": (images_made(lambda i, s: Jointly(i)), "an image of train depends on what it is read with"),
    "leak": (images_made(lambda i, s: i), "train and test hold the same images"),
    "tuple": (lambda s, split: (1, 2), "load returned a tuple, not a bench.Data"),
    "RNG": (drew, "torch's RNG was used; draw from bench.noise instead"),
    "random": (
        images_made(lambda i, s: i * (0.5 + 0.5 / len(CALLS.append(1) or CALLS))),
        "loading train twice gives two sets",
    ),
    "other provides": (lambda s, split: tiny_data(), "`provides` says labels, train has gaze, labels, object_masks"),
    "int32": (
        lambda s, split: dataclasses.replace(
            tiny_data(), object_masks=None, gaze=None, labels=tiny_data().labels.int()
        ),
        "labels of train are torch.int32, not int64",
    ),
    "labels": (
        lambda s, split: dataclasses.replace(tiny_data(), object_masks=None, gaze=None, labels=tiny_data().labels + 1),
        "labels of train run from 1 to 3, there are 3 classes",
    ),
    "fewer labels": (
        lambda s, split: dataclasses.replace(tiny_data(), object_masks=None, gaze=None, labels=tiny_data().labels[:20]),
        "train has 20 labels for 24 images",
    ),
}


@pytest.mark.parametrize("case", DATASETS)
def test_a_broken_data_set_is_told_why(case):
    load, message = DATASETS[case]
    found = failures(made(bench.Dataset, load=load))
    assert message in found["gives images and labels"], found


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (lambda m: m[:, :6], "object_masks[rows] is (16, 6, 12), not (16, 12, 12)"),
        (lambda m: -m, "object_masks of train leave [0, 1] or are not numbers"),
    ],
)
def test_masks_that_do_not_fit_are_named(masks, message):
    def load(self, split):
        data = tiny_data()
        return dataclasses.replace(data, gaze=None, object_masks=masks(data.object_masks))

    found = failures(made(bench.Dataset, load=load, provides=frozenset({"labels", "object_masks"})))
    assert found == {"gives images and labels": message}


# All kinds.


def described(**members):
    return made(bench.Explainer, attribute=gradient, differentiable=True, **members)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"__doc__": None}, "it has no docstring"),
        ({"version": "1.0"}, "version is '1.0'; it is a whole number that starts at 1"),
        ({"paper": "Deep Maps, 2024"}, "paper is 'Deep Maps, 2024'; give a bench.Paper, or leave it out"),
        (
            {"__annotations__": {"power": float}, "power": bench.param(1.0)},
            "parameter power has no help; declare it with bench.param(default, help)",
        ),
    ],
)
def test_a_component_that_does_not_say_what_it_is(members, message):
    assert failures(described(**members)) == {"says what it is": message}


def test_a_metric_needs_help_and_a_direction():
    def call(self, kept):
        return kept.double()

    assert "a metric needs help" in failures(made(bench.Metric, __call__=call))["says what it is"]
    found = failures(made(bench.Metric, __call__=call, help="x", better="up"))
    assert found["says what it is"] == 'better is \'up\'; it is "higher" or "lower"'


def test_a_text_form_that_does_not_read_back_is_told():
    wrong = described(__annotations__={"power": float}, power=bench.param(1.0, "a power"))
    wrong.__str__ = lambda self: "broken:power=3"
    assert failures(wrong) == {"has a text form": "its text form broken:power=3 reads back as broken:power=3"}


def test_an_example_that_cannot_be_read_is_one_failure():
    members = {"__annotations__": {"power": float}, "power": bench.param(1.0, "a power", low=0)}
    (check,) = checks("explainer", "broken", alone(described(examples=("power=-1",), **members)))
    assert check.failure() == "explainer broken: power is -1.0, must be a number of at least 0"


# Which checks there are.

POWER = {"__annotations__": {"power": float}, "power": bench.param(1.0, "a power", low=0)}
NEEDY = {"__annotations__": {"path": Path}, "path": bench.param(help="a file")}


def chosen(cls, name):
    return list(dict.fromkeys(check.text for check in checks("explainer", name, alone(cls))))


def test_a_name_with_parameters_is_the_only_text():
    cls = described(examples=("power=2", "power=3"), **POWER)
    assert chosen(cls, "broken") == ["broken:power=2", "broken:power=3"]
    assert chosen(cls, "broken:power=4") == ["broken:power=4.0"]
    with pytest.raises(bench.BadValue, match="power is 'x', must be a number of at least 0"):
        chosen(cls, "broken:power=x")


@pytest.mark.parametrize("examples", [(), ("",)])
def test_required_parameters_without_examples_have_to_be_given(examples):
    cls = described(examples=examples, **NEEDY)
    message = (
        "explainer broken needs path and has no examples to check it with: give values, as in explainer:broken:path="
    )
    with pytest.raises(bench.BadValue, match=message):
        chosen(cls, "broken")
    assert chosen(cls, "broken:path=x") == ["broken:path=x"]
    assert checks("explainer", None, alone(cls)) == checks(None, None, alone(cls)) == []
    assert named("explainer", alone(cls))[1][0].startswith(message)


def test_a_component_without_examples_is_checked_by_name():
    cls = described(examples=())
    assert chosen(cls, "broken") == ["broken"]
    found, left_out = named(None, alone(cls))
    assert (found, left_out) == ([], ["explainer broken has no examples; check it by name, as explainer:broken"])


def test_every_contract_is_seen_to_break():
    """The tables above, by contract: one that no component breaks may not be there for nothing."""
    source = Path(__file__).read_text()
    for kind in ("", *KINDS):
        for contract in CONTRACTS[kind]:
            assert f'"{contract.__name__.replace("_", " ")}"' in source, contract.__name__
