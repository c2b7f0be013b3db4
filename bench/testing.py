"""The contracts of the seven kinds, run over everything installed, and by a plugin's author as three lines of pytest:

@pytest.mark.parametrize("check", bench.testing.checks("explainer", "corner"), ids=str)
def test_contract(check):
    check()
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench import noise
from bench.catalog import Catalog, installed
from bench.components import Component, parameters
from bench.errors import BenchError
from bench.gradients import input_gradient, softened
from bench.graph import wanted
from bench.kinds import Attack, Ball, Data, Dataset, Defense, Explainer, Metric, Model, Normalised, Schedule, Victim
from bench.store import Store
from bench.training import Fit, Phase

BETA = 20.0  # of the softplus that stands for ReLU where a second derivative is looked at


class ContractBroken(BenchError):
    """A component does not do what its kind promises; the text says what, in its author's terms."""

    exit_code = 1


def ensure(holds: Any, text: str) -> None:
    if not bool(holds):
        raise ContractBroken(text)


@dataclass(frozen=True)
class Check:
    """One contract of one component; call it. Raises ContractBroken."""

    contract: Callable[[Any, Catalog], None]
    component: Component
    catalog: Catalog

    def __call__(self) -> None:
        self.contract(self.component, self.catalog)

    def __str__(self) -> str:
        return f"{self.component.kind}-{self.component}-{self.contract.__name__}"


def checks(kind: str | None = None, name: str | None = None, catalog: Catalog | None = None) -> list[Check]:
    """The contracts of a component, of a kind, or of everything installed, each with every text in `examples`."""
    catalog = catalog or installed()
    found = []
    for each in [kind] if kind else catalog.components:
        for cls in [catalog.find(each, name)] if name else catalog.of(each).values():
            for text in cls.examples:
                component = catalog.read(each, f"{cls.name}:{text}" if text else cls.name)
                found += [Check(contract, component, catalog) for contract in (*CONTRACTS[""], *CONTRACTS[each])]
    return found


# What the contracts run on: tiny, in float64 where derivatives are compared.


def tiny_network(smooth: bool, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A convolutional network for images of 3 x 12 x 12 and 3 classes, in eval mode, frozen, the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = TinyModel(activation="softplus" if smooth else "relu").build((3, 12, 12), 3)
    return network.to(dtype).eval().requires_grad_(False)


def tiny_images(rows: int = 5) -> tuple[Tensor, Tensor]:
    """Images (rows, 3, 12, 12) in float64, and targets."""
    with noise.rows(0, "tiny", range(rows)):
        return noise.uniform(torch.empty(rows, 3, 12, 12, dtype=torch.float64), 0.1, 0.9), torch.arange(rows) % 3


@dataclass(frozen=True)
class TinyModel(Model):
    """Two convolutions and a linear layer."""

    name = "tiny"
    activation: Literal["softplus", "relu"] = "softplus"

    def build(self, shape: tuple[int, int, int], classes: int) -> Normalised:
        def act() -> nn.Module:
            return nn.Softplus(3.0) if self.activation == "softplus" else nn.ReLU()

        channels, height, width = shape
        return Normalised(
            nn.Sequential(
                nn.Conv2d(channels, 6, 3, padding=1),
                act(),
                nn.Conv2d(6, 8, 3, padding=1),
                act(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(8 * (height // 2) * (width // 2), classes),
            ),
            [0.5] * channels,
            [0.25] * channels,
        )


@dataclass(frozen=True)
class TinySchedule(Schedule):
    """Two epochs of four steps."""

    name = "tiny"
    epochs: int = 2
    batch: int = 6
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    rate: float = 0.01
    weight_decay: float = 0.0
    decay: tuple[int, ...] = ()
    augmentation: Literal["none", "crop_flip"] = "none"
    clipping: float = 0.5
    limit: int = 0


def tiny_data(rows: int = 24) -> Data:
    images, labels = tiny_images(rows)
    masks = (images.mean(1) > 0.5).float()
    return Data(images.float(), labels, ("a", "b", "c"), object_masks=masks, gaze=masks)


def tiny_fit(folder: str, schedule: Schedule | None = None) -> Fit:
    """A Fit on tiny data, with checkpoints in a folder."""
    with Store(Path(folder), lambda text: None).unfinished("tiny") as unfinished:
        return Fit(tiny_data(), TinyModel(), schedule or TinySchedule(), 0, torch.device("cpu"), unfinished, [])


@contextlib.contextmanager
def left_as_found(network: nn.Module, *tensors: Tensor) -> Iterator[None]:
    """Inside, a component may change nothing that outlives it: weights, mode, hooks, inputs, torch's RNG."""

    def state() -> tuple[Any, ...]:
        return (
            [m.training for m in network.modules()],
            [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in network.modules()],
            [p.requires_grad for p in network.parameters()],
        )

    before, weights = state(), copy.deepcopy(network.state_dict())
    copies, rng = [t.clone() for t in tensors], torch.get_rng_state()
    yield
    ensure(state() == before, "the network's mode, hooks or requires_grad are not as they were")
    ensure(
        all(torch.equal(weights[n], t) for n, t in network.state_dict().items()), "the network's weights were changed"
    )
    ensure(all(map(torch.equal, copies, tensors)), "images or targets were changed in place")
    ensure(torch.equal(rng, torch.get_rng_state()), "torch's RNG was used; draw from bench.noise instead")


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
    count = len(tensors[0])
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
    for parameter in parameters(type(component)).values():
        ensure(parameter.help, f"parameter {parameter.name} has no help; declare it with bench.param(default, help)")
    if isinstance(component, Metric):
        ensure(component.help, "a metric needs help: what its column means, in one line")


# By kind.


def gives_images_and_labels(component: Dataset, catalog: Catalog) -> None:
    for split in ("train", "validation", "test"):
        data = component.load(split)
        rows = torch.tensor([0, len(data) - 1])
        images = data.images[rows]
        ensure(images.ndim == 4 and len(images) == 2, f"images[rows] of {split} has the shape {tuple(images.shape)}")
        ensure(images.dtype == torch.float32, f"images of {split} are {images.dtype}, not float32")
        ensure(images.min() >= 0 and images.max() <= 1, f"images of {split} leave [0, 1]")
        ensure(torch.equal(data.images[rows[1:]], images[1:]), f"an image of {split} depends on what it is read with")
        ensure(torch.equal(component.load(split).images[rows], images), f"loading {split} twice gives two sets")
        found = {"labels": data.labels, "object_masks": data.object_masks, "gaze": data.gaze}
        ensure(
            {n for n, v in found.items() if v is not None} == set(component.provides), "`provides` is not what it gives"
        )
        for name in ("object_masks", "gaze"):
            if found[name] is not None:
                ensure(found[name][rows].shape == (2, *images.shape[2:]), f"{name}[rows] is not (n, H, W)")
        if data.labels is not None:
            ensure(len(data.labels) == len(data), f"{split} has {len(data.labels)} labels for {len(data)} images")
            ensure(data.labels.min() >= 0 and data.labels.max() < len(data.classes), f"labels of {split} have no class")


def maps_images_to_logits(component: Model, catalog: Catalog) -> None:
    with noise.rows(0, "model", range(3)):
        images = noise.uniform(torch.empty(3, 3, 32, 32), 0, 1)
    built = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            built.append(component.build((3, 32, 32), 7).eval())
    network = built[0]
    ensure(isinstance(network, Normalised), "build returns no bench.Normalised; networks normalise inside themselves")
    with torch.no_grad(), left_as_found(network, images):
        logits = network(images)
        ensure(logits.shape == (3, 7), f"3 images and 7 classes give logits of {tuple(logits.shape)}")
        ensure(
            torch.allclose(network(images[:1]), logits[:1], atol=1e-4),
            "an image alone has other logits than in a batch",
        )
        ensure(torch.equal(built[1](images), logits), "two networks built under one seed differ")


def is_smooth_as_it_says(component: Model, catalog: Catalog) -> None:
    network = component.build((3, 32, 32), 4).eval().requires_grad_(False).double()
    images = torch.full((1, 3, 32, 32), 0.4, dtype=torch.float64).requires_grad_()
    gradient = input_gradient(network, images, torch.tensor([1]))
    (second,) = torch.autograd.grad(gradient.square().sum(), images, allow_unused=True)
    curved = second is not None and bool(second.abs().max() > 1e-12)
    ensure(
        curved == component.smooth,
        f"smooth is {component.smooth}, its second derivative is {'not ' if curved else ''}zero",
    )


def is_a_schedule(component: Schedule, catalog: Catalog) -> None:
    ensure(list(component.decay) == sorted(set(component.decay)), f"decay points {component.decay} do not increase")
    if component.limit and component.epochs <= 2:
        with tempfile.TemporaryDirectory() as folder:
            fit = tiny_fit(folder, dataclasses.replace(component, limit=12))
            start = copy.deepcopy(fit.fresh().state_dict())
            trained = fit.minimise(fit.fresh(), lambda n, b: nn.functional.cross_entropy(n(b.images), b.labels))
            moved = any(not torch.equal(start[n], t) for n, t in trained.state_dict().items())
        ensure(moved, "training under it changes no weight")


def trains_every_weight_again_the_same(component: Defense, catalog: Catalog) -> None:
    states = []
    rng = torch.get_rng_state()
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            fit = tiny_fit(folder)
            start = copy.deepcopy(fit.fresh().state_dict())
            states.append(component.train(fit).state_dict())
            ensure(fit.log, "nothing was trained: train must call fit.minimise")
    ensure(torch.equal(rng, torch.get_rng_state()), "torch's RNG outside the training was used")
    for name, tensor in states[0].items():
        ensure(torch.equal(tensor, states[1][name]), f"two trainings under one seed differ in {name}")
        if not name.endswith(("mean", "std")):
            ensure(not torch.equal(tensor, start[name]), f"training leaves the weight {name} where it was")


def goes_on_where_it_was_stopped(component: Defense, catalog: Catalog) -> None:
    class Stopped(Exception):
        pass

    def stop(unfinished: Any) -> None:
        save, count = unfinished.save, [0]

        def saving(phase: str, files: dict[str, bytes]) -> None:
            save(phase, files)
            count[0] += 1
            if count[0] == 1:
                raise Stopped

        unfinished.save = saving

    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        whole = component.train(tiny_fit(first)).state_dict()
        fit = tiny_fit(second)
        stop(fit._unfinished)
        with contextlib.suppress(Stopped):
            component.train(fit)
        resumed = component.train(tiny_fit(second)).state_dict()
    for name, tensor in whole.items():
        ensure(torch.equal(tensor, resumed[name]), f"a training that was stopped and went on ends with another {name}")


def attributes_to_pixels(component: Explainer, catalog: Catalog) -> None:
    network, (images, targets) = tiny_network(smooth=True), tiny_images()
    with torch.no_grad(), left_as_found(network, images, targets), noise.rows(0, "contract", range(5)):
        found = component.attribute(network, images, targets)
        ensure(found.shape in ((5, 3, 12, 12), (5, 1, 12, 12)), f"images (5, 3, 12, 12) give {tuple(found.shape)}")
        ensure(found.isfinite().all(), "the attribution is not finite")
        ensure(found.dtype == images.dtype, f"images in {images.dtype} give an attribution in {found.dtype}")
        ensure(not found.requires_grad, "the attribution keeps a graph under torch.no_grad()")
        maps = component.maps(network, images, targets)
        ensure(
            (maps >= 0).all() and torch.allclose(maps.sum((1, 2)), maps.new_ones(5)), "a map is zero or not a number"
        )
        masks = component.masks(network, images, targets)
        ensure(masks.min() >= 0 and masks.max() <= 1, "a mask leaves [0, 1]")


def explains_rows_alone(component: Explainer, catalog: Catalog) -> None:
    network, (images, targets) = tiny_network(smooth=True), tiny_images()
    with torch.no_grad():
        treats_rows_alone(lambda i, t: component.attributions(network, i, t), images, targets)


def is_differentiable_as_it_says(component: Explainer, catalog: Catalog) -> None:
    for smooth in (True, False):
        network, (images, targets) = tiny_network(smooth), tiny_images(2)
        with noise.rows(1, "direction", range(2)):
            direction, weight = noise.normal(images), noise.uniform(images[:, 0], 0, 1)

        def mass(
            moved: Tensor, network: nn.Module = network, targets: Tensor = targets, weight: Tensor = weight
        ) -> Tensor:
            with noise.rows(0, "contract", range(2)), softened(BETA):
                return (component.maps(network, moved, targets) * weight).sum()

        about = "a softplus network" if smooth else f"a ReLU network under softened({BETA:g})"
        for inside in (True, False):
            leaf = images.clone().requires_grad_()
            with softened(BETA) if inside else contextlib.nullcontext():
                value = mass(leaf)
                found = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
            if not component.differentiable:
                dead = found is None or not found.any()
                ensure(dead, "differentiable is False, but its maps have a gradient")
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


def _perturbed(component: Attack, network: nn.Module, ball: Ball) -> Callable[..., Tensor]:
    victim = Victim(network, PlainGradient())
    return lambda images, targets: ball.project(component.perturb(victim, images, targets, ball).detach(), images)


@dataclass(frozen=True)
class PlainGradient(Explainer):
    """The explainer that attacks are checked on."""

    name = "plain_gradient"
    differentiable = True

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return input_gradient(network, images, targets)


def stays_in_the_ball(component: Attack, catalog: Catalog) -> None:
    images, targets = tiny_images()
    for smooth in (True, False):
        network = tiny_network(smooth)
        for ball in (Ball("linf", Fraction(8, 255)), Ball("l2", Fraction(1, 2))):
            with left_as_found(network, images, targets), noise.rows(0, "contract", range(5)):
                raw = component.perturb(Victim(network, PlainGradient()), images, targets, ball)
            ensure(raw.shape == images.shape, f"images {tuple(images.shape)} come back as {tuple(raw.shape)}")
            ensure(raw.isfinite().all(), "an attacked image is not finite")
            ensure(raw.dtype == images.dtype, f"images in {images.dtype} come back in {raw.dtype}")
            change = (ball.project(raw.detach(), images) - images).flatten(1)
            size = change.abs().amax(1) if ball.norm == "linf" else change.norm(dim=1)
            ensure((size <= float(ball.eps) + 1e-9).all(), f"it leaves the ball {ball}")
            ensure(change.any(), f"it moves nothing in the ball {ball}")
    with noise.rows(0, "contract", range(5)):
        still = _perturbed(component, tiny_network(True), Ball("linf", Fraction(0)))(images, targets)
    ensure(torch.equal(still, images), "with eps 0 it changes the images")


def attacks_rows_alone(component: Attack, catalog: Catalog) -> None:
    images, targets = tiny_images()
    treats_rows_alone(_perturbed(component, tiny_network(True), Ball("linf", Fraction(8, 255))), images, targets)


def lowers_its_objective(component: Attack, catalog: Catalog) -> None:
    images, targets = tiny_images()
    for smooth in (True, False):
        victim, ball = Victim(tiny_network(smooth), PlainGradient()), Ball("linf", Fraction(8, 255))
        with torch.no_grad():
            objective = component.objective(victim, images, targets)
            if objective is None:
                return
            before = objective(images)
        attacked = _perturbed(component, victim.network, ball)(images, targets)
        with torch.no_grad():
            after = objective(attacked)
        ensure((after <= before + 1e-9).all(), "an image's objective is higher after the attack than before")
        ensure(after.mean() < before.mean(), "its objective is no lower after the attack than before")


def tiny_evidence(rows: int = 6) -> dict[str, Any]:
    """Evidence of every name that holds rows, with clean and attacked maps that are the same."""
    images, targets = tiny_images(rows)
    network = tiny_network(smooth=True)
    attributions = input_gradient(network, images, targets)
    maps = PlainGradient().maps(network, images, targets)
    with torch.no_grad():
        logits, masks = network(images), PlainGradient().masks(network, images, targets)
    sides = {"attributions": attributions.detach(), "maps": maps.detach(), "masks": masks, "logits": logits}
    return {
        **{f"{side}_{name}": value for name, value in sides.items() for side in ("clean", "attacked")},
        "images": images,
        "attacked_images": images,
        "labels": targets,
        "targets": targets,
        "object_masks": (maps > maps.mean()).float(),
        "gaze": maps.detach(),
        "kept": torch.ones(rows, dtype=torch.bool),
        "attack_success": torch.ones(rows, dtype=torch.bool),
        **{name: [Phase(name, 1.0, None, 1, 1)] for name in ("training", "explaining", "attacking")},
    }


def scores_rows_alone_and_identity_best(component: Metric, catalog: Catalog) -> None:
    names = wanted(type(component).__call__)
    evidence = tiny_evidence()
    if not set(names) <= set(evidence):
        return  # it asks for more than rows: only a run can tell
    score = component(**{name: evidence[name] for name in names})
    if not isinstance(score, Tensor):
        return
    ensure(score.shape == (6,), f"6 images give scores of shape {tuple(score.shape)}")
    for row in range(6):
        alone = component(
            **{n: v[row : row + 1] if isinstance(v, Tensor) else v for n, v in evidence.items() if n in names}
        )
        ensure(
            torch.allclose(alone[0], score[row], equal_nan=True), "an image alone scores differently than in a batch"
        )
    if {"clean_maps", "attacked_maps"} <= set(names):
        other = component(**{n: evidence[n].flip(0) if n == "attacked_maps" else evidence[n] for n in names})
        sign = 1 if component.better == "higher" else -1
        ensure((sign * (score - other) >= -1e-9).all(), "identical maps do not have its best value")


CONTRACTS: dict[str, tuple[Callable[[Any, Catalog], None], ...]] = {
    "": (has_a_text_form, says_what_it_is),
    "dataset": (gives_images_and_labels,),
    "model": (maps_images_to_logits, is_smooth_as_it_says),
    "schedule": (is_a_schedule,),
    "defense": (trains_every_weight_again_the_same, goes_on_where_it_was_stopped),
    "explainer": (attributes_to_pixels, explains_rows_alone, is_differentiable_as_it_says),
    "attack": (stays_in_the_ball, attacks_rows_alone, lowers_its_objective),
    "metric": (scores_rows_alone_and_identity_best,),
}
