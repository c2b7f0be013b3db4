"""The contracts of the seven kinds: what a component promises, and in its author's terms how it breaks it."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import random
import tempfile
import typing
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench import noise
from bench.components.base import Component, parameters
from bench.components.kinds import (
    Attack,
    Ball,
    Data,
    Dataset,
    Defense,
    Explainer,
    Levels,
    Metric,
    Model,
    Normalised,
    Schedule,
    Undefined,
)
from bench.engine.catalog import Catalog
from bench.engine.graph import dependencies
from bench.engine.training import Fit, seeded
from bench.errors import BenchError
from bench.gradients import input_gradient, softened
from bench.papers import Paper
from bench.testing.fixtures import tiny_data, tiny_evidence, tiny_fit, tiny_images, tiny_network, tiny_victim

BETA = 20.0  # of the softplus that stands for ReLU where a second derivative is looked at
LOOKED_AT = 16  # images of a split that are decoded
ROUNDING = 1e-6  # by which an attack may miss its budget in float32


class ContractBroken(BenchError):
    """A component does not do what its kind promises; the text says what, in its author's terms."""

    exit_code = 1


def ensure(holds: Any, text: str) -> None:
    if not bool(holds):
        raise ContractBroken(text)


@contextlib.contextmanager
def left_as_found(network: nn.Module, *tensors: Tensor) -> Iterator[None]:
    """Inside, a component may change nothing that outlives it: weights, mode, hooks, inputs, grad mode, generators."""

    def state() -> tuple[Any, ...]:
        return (
            [m.training for m in network.modules()],
            [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in network.modules()],
            [p.requires_grad for p in network.parameters()],
        )

    trained = []
    handle = network.register_forward_pre_hook(lambda module, inputs: trained.append(module.training))
    before, weights, mode = state(), copy.deepcopy(network.state_dict()), torch.is_grad_enabled()
    with untouched(*tensors), drawing_nothing():
        try:
            yield
            ensure(state() == before, "the network's mode, hooks or requires_grad are not as they were")
        finally:
            handle.remove()
    same = all(torch.equal(weights[n], t) for n, t in network.state_dict().items())
    ensure(same, "the network's weights were changed")
    ensure(not any(trained), "the network was run in train mode; it comes in eval mode and stays in it")
    ensure(torch.is_grad_enabled() == mode, "grad mode is not as it was; change it by `with torch.enable_grad():`")


@contextlib.contextmanager
def untouched(*tensors: Tensor) -> Iterator[None]:
    """Inside, the given tensors may not be changed."""
    copies, leaves = [t.clone() for t in tensors], [t.requires_grad for t in tensors]
    yield
    ensure(all(map(torch.equal, copies, tensors)), "what it was given (images, targets, maps) was changed in place")
    ensure(
        leaves == [t.requires_grad for t in tensors],
        "requires_grad was set on the images that it was given; set it on images.detach()",
    )


@contextlib.contextmanager
def drawing_nothing() -> Iterator[None]:
    """Inside, only `bench.noise` may be drawn from."""

    def states() -> dict[str, Any]:
        numpy = np.random.get_state()
        return {
            "torch": torch.get_rng_state().tolist(),
            "numpy": (numpy[1].tolist(), numpy[2]),
            "Python": random.getstate(),
        }

    before = states()
    yield
    for owner, state in states().items():
        ensure(state == before[owner], f"{owner}'s RNG was used; draw from bench.noise instead")


def in_rows(function: Callable[..., Tensor], *tensors: Tensor, sizes: list[int]) -> Tensor:
    """A function of rows, applied to parts of given sizes, each under the noise of its images."""
    found, start = [], 0
    for size in sizes:
        part = slice(start, start + size)
        with noise.rows(0, "contract", range(start, start + size)):
            found.append(function(*(t[part] for t in tensors)))
        start += size
    return torch.cat(found)


def treats_rows_alone(function: Callable[..., Tensor], *tensors: Tensor) -> None:
    count = len(tensors[0]) if tensors else 0
    whole = in_rows(function, *tensors, sizes=[count])
    again = in_rows(function, *tensors, sizes=[count])
    ensure(torch.equal(whole, again), "two runs under one seed differ; draw from bench.noise only")
    for sizes in ([1] * count, [2, count - 2]):
        parts = in_rows(function, *tensors, sizes=sizes)
        ensure(
            torch.allclose(parts, whole, rtol=1e-6, atol=1e-9),
            f"an image in chunks of {sizes[0]} gets another result than in a batch of {count}, by up to "
            f"{float((parts - whole).abs().max()):.1e}; rows must not know of each other",
        )


# All kinds.


def has_a_text_form(component: Component, catalog: Catalog) -> None:
    read = catalog.read(component.kind, str(component))
    ensure(read == component, f"its text form {component} reads back as {read}")
    ensure(read.identity == component.identity, "its identity changes when it is read back from its text form")


def says_what_it_is(component: Component, catalog: Catalog) -> None:
    doc = component.__class__.__dict__.get("__doc__") or ""
    ensure(doc.strip() and not doc.startswith(f"{type(component).__name__}("), "it has no docstring")
    version, paper = component.version, component.paper
    ensure(type(version) is int and version > 0, f"version is {version!r}; it is a whole number that starts at 1")
    ensure(paper is None or isinstance(paper, Paper), f"paper is {paper!r}; give a bench.Paper, or leave it out")
    for parameter in parameters(type(component)).values():
        ensure(parameter.help, f"parameter {parameter.name} has no help; declare it with bench.param(default, help)")
    if isinstance(component, Metric):
        ensure(component.help, "a metric needs help: what its column means, in one line")
        ensure(component.better in ("higher", "lower"), f'better is {component.better!r}; it is "higher" or "lower"')


# By kind.


def gives_images_and_labels(component: Dataset, catalog: Catalog) -> None:
    first = {}
    for split in ("train", "validation", "test"):
        with drawing_nothing():
            data = component.load(split)
        ensure(isinstance(data, Data), f"load returned a {type(data).__name__}, not a bench.Data")
        if not len(data):
            continue  # a set for testing alone has an empty train, one without validation an empty validation
        rows = torch.linspace(0, len(data) - 1, min(len(data), LOOKED_AT)).round().long()
        images = data.images[rows]
        ensure(
            images.ndim == 4 and len(images) == len(rows),
            f"images[rows] of {split} has the shape {tuple(images.shape)} for {len(rows)} rows; it is (n, C, H, W)",
        )
        ensure(images.dtype == torch.float32, f"images of {split} are {images.dtype}, not float32")
        ensure(
            images.min() >= 0 and images.max() <= 1,
            f"images of {split} leave [0, 1]: from {float(images.min()):.3g} to {float(images.max()):.3g}; "
            "networks normalise inside themselves",
        )
        ensure(torch.equal(data.images[rows[1:]], images[1:]), f"an image of {split} depends on what it is read with")
        ensure(torch.equal(component.load(split).images[rows], images), f"loading {split} twice gives two sets")
        first[split] = data.images[torch.arange(min(len(data), LOOKED_AT))]
        found = {"labels": data.labels, "object_masks": data.object_masks, "gaze": data.gaze}
        given = {name for name, value in found.items() if value is not None}
        ensure(
            given == set(component.provides),
            f"`provides` says {_listed(component.provides)}, {split} has {_listed(given)}",
        )
        for name in ("object_masks", "gaze"):
            if found[name] is not None:
                shape = (len(rows), *images.shape[2:])
                ensure(
                    found[name][rows].shape == shape, f"{name}[rows] is {tuple(found[name][rows].shape)}, not {shape}"
                )
                values = found[name][rows]
                ensure(values.min() >= 0 and values.max() <= 1, f"{name} of {split} leave [0, 1] or are not numbers")
        if data.labels is not None:
            ensure(data.labels.dtype == torch.int64, f"labels of {split} are {data.labels.dtype}, not int64")
            ensure(len(data.labels) == len(data), f"{split} has {len(data.labels)} labels for {len(data)} images")
            ensure(
                data.labels.min() >= 0 and data.labels.max() < len(data.classes),
                f"labels of {split} run from {int(data.labels.min())} to {int(data.labels.max())}, "
                f"there are {len(data.classes)} classes",
            )
    ensure(first, "no split has any images")
    same = {"train", "test"} <= set(first) and torch.equal(first["train"], first["test"])
    ensure(not same, "train and test hold the same images")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def maps_images_to_logits(component: Model, catalog: Catalog) -> None:
    with noise.rows(0, "model", range(3)):
        images = noise.uniform(torch.empty(3, 3, 32, 32), 0, 1)
    built = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            built.append(component.build((3, 32, 32), 7).eval())
    network = built[0]
    ensure(
        isinstance(network, Normalised),
        f"build returns a {type(network).__name__}, not a bench.Normalised; networks normalise inside themselves",
    )
    ensure((network.std > 0).all() and network.mean.isfinite().all(), "mean or std of the normalisation is impossible")
    with torch.no_grad(), left_as_found(network, images):
        logits = network(images)
        ensure(logits.shape == (3, 7), f"3 images and 7 classes give logits of {tuple(logits.shape)}, not (3, 7)")
        ensure(logits.isfinite().all(), "logits are not finite")
        ensure(not torch.equal(logits[0], logits[1]), "two images have the same logits: it does not look at them")
        ensure(
            torch.allclose(network(images[:1]), logits[:1], atol=1e-4),
            "an image alone has other logits than in a batch",
        )
        ensure(torch.equal(built[1](images), logits), "two networks built under one seed differ")


def is_smooth_as_it_says(component: Model, catalog: Catalog) -> None:
    network = component.build((3, 32, 32), 4).eval().requires_grad_(False).double()
    images = torch.full((1, 3, 32, 32), 0.4, dtype=torch.float64).requires_grad_()
    gradient = input_gradient(network, images, torch.tensor([1]))
    second = None
    if gradient.requires_grad:  # that of a linear network does not
        (second,) = torch.autograd.grad(gradient.square().sum(), images, allow_unused=True)
    curved = second is not None and bool(second.abs().max() > 1e-12)
    ensure(
        curved == component.smooth,
        f"smooth is {component.smooth}, but its second derivative is {'not ' if curved else ''}zero",
    )


def is_a_schedule(component: Schedule, catalog: Catalog) -> None:
    ensure(list(component.decay) == sorted(set(component.decay)), f"decay points {component.decay} do not increase")
    with tempfile.TemporaryDirectory() as folder:
        fit = tiny_fit(folder, dataclasses.replace(component, limit=12, epochs=1))
        start = copy.deepcopy(fit.fresh().state_dict())
        trained = fit.minimise(fit.fresh(), lambda n, b: nn.functional.cross_entropy(n(b.images), b.labels))
        moved = any(not torch.equal(start[n], t) for n, t in trained.state_dict().items())
    ensure(moved, "training under it changes no weight")


def _trained(component: Defense, fit: Fit) -> dict[str, Tensor]:
    network = component.train(fit)
    ensure(
        isinstance(network, nn.Module),
        f"train returned a {type(network).__name__}; return the network that fit.minimise gives",
    )
    return network.state_dict()


def trains_every_weight_again_the_same(component: Defense, catalog: Catalog) -> None:
    states = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder, drawing_nothing():
            fit = tiny_fit(folder)
            start = copy.deepcopy(fit.fresh().state_dict())
            states.append(_trained(component, fit))
            ensure(fit.log, "nothing was trained: train must call fit.minimise")
    ensure(set(states[0]) == set(start), "it returns another architecture than fit.fresh() gives")
    for name, tensor in states[0].items():
        ensure(
            torch.equal(tensor, states[1][name]),
            f"two trainings under one seed differ in {name}; draw from bench.noise, and keep nothing between trainings",
        )
        if not name.endswith(("mean", "std")):
            ensure(not torch.equal(tensor, start[name]), f"training leaves the weight {name} where it was")


def goes_on_where_it_was_stopped(component: Defense, catalog: Catalog) -> None:
    class Stopped(Exception):
        pass

    def stop(unfinished: Any, last: str) -> None:
        save = unfinished.save

        def saving(phase: str, files: dict[str, bytes]) -> None:
            save(phase, files)
            if phase == last:
                raise Stopped

        unfinished.save = saving

    with tempfile.TemporaryDirectory() as folder:
        fit = tiny_fit(folder)
        whole = _trained(component, fit)
    for phase in dict.fromkeys(phase.name for phase in fit.log):
        with tempfile.TemporaryDirectory() as folder:
            fit = tiny_fit(folder)
            stop(fit._unfinished, phase)
            with contextlib.suppress(Stopped):
                component.train(fit)
            resumed = _trained(component, tiny_fit(folder))
        for name, tensor in whole.items():
            ensure(
                torch.equal(tensor, resumed[name]),
                f"a training that was stopped in {phase!r} and went on ends with another {name}; "
                "what a loss remembers belongs in fit.state",
            )


def _learned(component: Explainer, network: nn.Module) -> dict[str, Tensor] | None:
    """What an explainer learns of a tiny network, in the network's precision; None where it learns nothing."""
    if not component.prepares:
        return None
    single, like = copy.deepcopy(network).float(), next(network.parameters())
    with tempfile.TemporaryDirectory() as folder, torch.enable_grad():
        found = component.prepare(single, tiny_data(), tiny_fit(folder))
    ensure(
        isinstance(found, dict) and found and all(isinstance(tensor, Tensor) for tensor in found.values()),
        "prepare returned no tensors by name; leave it out where nothing is learned",
    )
    return {name: t.detach().to(like.dtype) if t.is_floating_point() else t for name, t in found.items()}


def attributes_to_pixels(component: Explainer, catalog: Catalog) -> None:
    rules = typing.get_args(typing.get_args(typing.get_type_hints(Explainer)["mask_rule"])[0])
    ensure(component.mask_rule in rules, f"mask_rule is {component.mask_rule!r}; it is one of {', '.join(rules)}")
    for dtype, shape in ((torch.float64, (3, 12, 12)), (torch.float32, (3, 12, 9))):
        if component.prepares and shape != (3, 12, 12):
            continue  # what it learns from is of one size
        network, (images, targets) = tiny_network(True, dtype, shape), tiny_images(5, shape)
        images, learned = images.to(dtype), _learned(component, network)
        with torch.no_grad(), left_as_found(network, images, targets), noise.rows(0, "contract", range(5)):
            found = component.attribute(network, images, targets, *([learned] if learned else []))
            ensure(isinstance(found, Tensor), f"attribute returned a {type(found).__name__}, not a tensor")
            ensure(
                found.shape in ((5, *shape), (5, 1, *shape[1:])),
                f"images {(5, *shape)} give an attribution of {tuple(found.shape)}; it is (B, C or 1, H, W)",
            )
            ensure(found.isfinite().all(), "the attribution is not finite")
            ensure(found.dtype == images.dtype, f"images in {images.dtype} give an attribution in {found.dtype}")
            ensure(not found.requires_grad, "the attribution keeps a graph under torch.no_grad()")
            maps = component.maps(network, images, targets, learned)
            ensure(maps.flatten(1).any(1).all(), "the attribution of an image is zero everywhere")
            ensure(torch.allclose(maps.sum((1, 2)), maps.new_ones(5)), "a map does not sum to one")
            masks = component.masks(network, images, targets, learned)
            ensure(masks.min() >= 0 and masks.max() <= 1, "a mask leaves [0, 1]")


def explains_rows_alone(component: Explainer, catalog: Catalog) -> None:
    network, (images, targets) = tiny_network(smooth=True), tiny_images()
    learned = _learned(component, network)
    with torch.no_grad():
        treats_rows_alone(lambda i, t: component.attributions(network, i, t, learned), images, targets)


def is_differentiable_as_it_says(component: Explainer, catalog: Catalog) -> None:
    for smooth in (True, False):
        network, (images, targets) = tiny_network(smooth), tiny_images(2)
        learned = _learned(component, network)
        with noise.rows(1, "direction", range(2)):
            direction, weight = noise.normal(images), noise.uniform(images[:, 0], 0, 1)

        def mass(moved: Tensor, given: tuple[Any, ...] = (network, targets, learned, weight)) -> Tensor:
            network, targets, learned, weight = given
            with noise.rows(0, "contract", range(2)), softened(BETA):
                return (component.maps(network, moved, targets, learned) * weight).sum()

        about = "a softplus network" if smooth else f"a ReLU network under softened({BETA:g})"
        for inside in (True, False):
            leaf = images.clone().requires_grad_()
            with softened(BETA) if inside else contextlib.nullcontext():
                value = mass(leaf)
                found = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
            if not component.differentiable:
                dead = found is None or not found.any()
                ensure(dead, "differentiable is False, but its maps have a gradient; say differentiable = True")
                continue
            ensure(found is not None and found.isfinite().all(), f"its maps have no finite gradient on {about}")
            step = 1e-6
            with torch.no_grad():
                slope = (mass(images + step * direction) - mass(images - step * direction)) / (2 * step)
            exact = (found * direction).sum()
            ensure(
                (exact - slope).abs() <= 1e-4 * slope.abs().clamp(min=1e-6),
                f"differentiable is True, but on {about} the gradient of its maps gives {float(exact):.6g} where "
                f"finite differences give {float(slope):.6g}",
            )
            ensure(found.any(), f"differentiable is True, but the gradient of its maps is zero on {about}")


def _perturbed(component: Attack, network: nn.Module, ball: Ball) -> Callable[..., Tensor]:
    victim = tiny_victim(network)
    return lambda images, targets: component.perturb(victim, images, targets, ball).detach()


def stays_in_the_ball(component: Attack, catalog: Catalog) -> None:
    for smooth, dtype in ((True, torch.float64), (False, torch.float32)):
        network, (images, targets) = tiny_network(smooth, dtype), tiny_images()
        images = images.to(dtype)
        for ball in (Ball("linf", Fraction(8, 255)), Ball("l2", Fraction(1, 2)), Ball("linf", Fraction(0))):
            with left_as_found(network, images, targets), noise.rows(0, "contract", range(5)):
                raw = component.perturb(tiny_victim(network), images, targets, ball)
            ensure(isinstance(raw, Tensor), f"perturb returned a {type(raw).__name__}, not a tensor")
            ensure(raw.shape == images.shape, f"images {tuple(images.shape)} come back as {tuple(raw.shape)}")
            ensure(raw.isfinite().all(), "an attacked image is not finite")
            ensure(raw.dtype == images.dtype, f"images in {images.dtype} come back in {raw.dtype}")
            change = (raw.detach() - images).flatten(1)
            size = change.abs().amax(1) if ball.norm == "linf" else change.norm(dim=1)
            over = float(size.max()) - float(ball.eps)
            ensure(over <= ROUNDING, f"it goes {over:.2g} beyond the ball {ball}; use ball.project(moved, images)")
            ensure(
                raw.min() >= -ROUNDING and raw.max() <= 1 + ROUNDING,
                "its images leave [0, 1]; use ball.project(moved, images)",
            )
            ensure(change.any() or not ball.eps, f"it moves nothing in the ball {ball}")


def attacks_rows_alone(component: Attack, catalog: Catalog) -> None:
    images, targets = tiny_images()
    treats_rows_alone(_perturbed(component, tiny_network(True), Ball("linf", Fraction(8, 255))), images, targets)


def lowers_its_objective(component: Attack, catalog: Catalog) -> None:
    images, targets = tiny_images()
    for smooth in (True, False):
        victim, ball = tiny_victim(tiny_network(smooth)), Ball("linf", Fraction(8, 255))
        with torch.no_grad():
            objective = component.objective(victim, images, targets)
            if objective is None:
                return
            before = objective(images)
        ensure(before.shape == (5,), f"its objective of 5 images has the shape {tuple(before.shape)}, not (5,)")
        if component.beta is None and not smooth:
            with torch.enable_grad():
                leaf = images.clone().requires_grad_()
                found = objective(leaf).sum()
                dead = not (found.requires_grad and torch.autograd.grad(found, leaf)[0].any())
            ensure(
                not dead,
                "its objective has no gradient on a ReLU network; give it a parameter beta, the sharpness of the "
                "softplus that stands for ReLU",
            )
        attacked = _perturbed(component, victim.network, ball)(images, targets)
        with torch.no_grad():
            after = objective(attacked)
        ensure((after <= before + 1e-9).all(), "an image's objective is higher after the attack than before")
        ensure(after.mean() < before.mean(), "its objective is no lower after the attack than before")


def _scores(component: Metric, evidence: dict[str, Any]) -> Tensor | None:
    """Scores (N, L) on evidence; None where there is one value for all images, or where it asks for more than rows,
    so that only a run can tell."""
    names = dependencies(type(component).__call__)
    if not set(names) <= set(evidence):
        return None
    given = {name: evidence[name] for name in names}
    tensors = [value for value in given.values() if isinstance(value, Tensor)]
    with untouched(*tensors), seeded(0, "contract"), torch.no_grad():
        score = component(**given)
    if isinstance(score, Undefined | int | float):
        return None
    count = len(tensors[0]) if tensors else 0
    if isinstance(score, Levels):
        shape = (count, len(score.names))
        ensure(
            score.values.shape == shape,
            f"{count} images and {len(score.names)} levels give values {tuple(score.values.shape)}, not {shape}",
        )
    else:
        ensure(
            isinstance(score, Tensor),
            f"it returned a {type(score).__name__}; return a tensor (N,), bench.Levels, a number or bench.Undefined",
        )
        ensure(score.shape == (count,), f"{count} images give scores of shape {tuple(score.shape)}, not {(count,)}")
    values = (score.values if isinstance(score, Levels) else score[:, None]).double()
    ensure(not values.isinf().any(), "a score is infinite; use nan where it is undefined")
    return values


def scores_every_image_alone(component: Metric, catalog: Catalog) -> None:
    evidence = tiny_evidence()
    whole = _scores(component, evidence)
    if whole is None:
        return
    ensure(not whole.isnan().all(), f"every score of {len(whole)} ordinary images is nan")
    again = _scores(component, evidence)
    ensure(
        torch.equal(whole.nan_to_num(9), again.nan_to_num(9)), "two scores of the same evidence under one seed differ"
    )
    for row in range(len(whole)):
        alone = _scores(component, {n: v[row : row + 1] if isinstance(v, Tensor) else v for n, v in evidence.items()})
        ensure(
            torch.allclose(alone[0], whole[row], equal_nan=True),
            f"an image alone scores {_shown(alone[0])} and {_shown(whole[row])} in a batch; rows must not know of each "
            "other",
        )


def _shown(score: Tensor) -> str:
    return ", ".join(f"{float(value):.4g}" for value in score)


def is_best_where_maps_are_the_same(component: Metric, catalog: Catalog) -> None:
    evidence = tiny_evidence()
    if not {"clean_maps", "attacked_maps"} <= set(dependencies(type(component).__call__)):
        return
    same, sign = _scores(component, evidence), 1 if component.better == "higher" else -1
    for other in (evidence["clean_maps"].flip(0), evidence["clean_maps"].roll(3, 2)):
        changed = _scores(component, {**evidence, "attacked_maps": other})
        if same is not None and changed is not None:
            worse = sign * (same - changed) < -1e-9
            ensure(
                not worse.any(),
                f"better is {component.better!r}, but a map scores {_shown(same[worse][:1])} beside itself and "
                f"{_shown(changed[worse][:1])} beside another",
            )


def is_undefined_where_a_map_is_zero(component: Metric, catalog: Catalog) -> None:
    evidence = tiny_evidence()
    if not {"clean_maps", "attacked_maps"} <= set(dependencies(type(component).__call__)):
        return
    for sides in (("attacked_maps",), ("clean_maps",), ("clean_maps", "attacked_maps")):
        zeroed = {side: evidence[side].index_fill(0, torch.tensor([0]), 0) for side in sides}
        scores = _scores(component, {**evidence, **zeroed})
        ensure(
            scores is None or scores[0].isnan().all(),
            f"where {' and '.join(sides)} are zero it scores {'' if scores is None else _shown(scores[0])}: such a map "
            "explains nothing, and its score is nan",
        )


CONTRACTS: dict[str, tuple[Callable[[Any, Catalog], None], ...]] = {
    "": (has_a_text_form, says_what_it_is),
    "dataset": (gives_images_and_labels,),
    "model": (maps_images_to_logits, is_smooth_as_it_says),
    "schedule": (is_a_schedule,),
    "defense": (trains_every_weight_again_the_same, goes_on_where_it_was_stopped),
    "explainer": (attributes_to_pixels, explains_rows_alone, is_differentiable_as_it_says),
    "attack": (stays_in_the_ball, attacks_rows_alone, lowers_its_objective),
    "metric": (scores_every_image_alone, is_best_where_maps_are_the_same, is_undefined_where_a_map_is_zero),
}
