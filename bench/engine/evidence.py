"""The vocabulary: what the harness computes for a case, one function per value.

Positional parameters say what a value is made from; the keyword-only `services` where it is computed (see graph.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bench import noise
from bench.components import Attack, Ball, Data, Dataset, Defense, Explainer, Model, Prepared, Schedule, Victim
from bench.engine.checks import CHECKED, COMPARED, LEAST, check_attack, check_gradient, check_maps, compare_maps
from bench.engine.chunks import chunked
from bench.engine.graph import Services, Value, Vocabulary, value
from bench.engine.phases import Phase, measure
from bench.engine.recipe import Recipe, Refit
from bench.engine.victims import make_victim
from bench.errors import BadComponent, BadValue, EnvironmentProblem
from bench.maps import mask, reduce
from bench.networks import check_images, check_logits, choose_class

Attribute = Callable[[Tensor, Tensor, str, list[Phase]], Tensor]

REPORTED = "reported/"  # before the names of what an attack reports, among the tensors of its run


@value(runs=("dataset",))
def train_data(dataset: Dataset) -> Data:
    """The training images, a Data; never a validation row."""
    return dataset.load("train")


@value(runs=("dataset",))
def test_data(dataset: Dataset, split: str, samples: int) -> Data:
    """The images measured on, a Data."""
    data = dataset.load(split)
    if not len(data):
        raise EnvironmentProblem(f"dataset {dataset} has no {split} images; choose another split")
    return data.at(data.choice(samples))


@value()
def images(test_data: Data, *, services: Services) -> Tensor:
    """(N, C, H, W) in [0, 1]: the clean images."""
    bad = (~test_data.images.flatten(1).isfinite().all(1)).nonzero()
    if len(bad):
        raise EnvironmentProblem(
            f"image {int(test_data.rows[bad[0]])} of the data set contains NaN or infinity; fix the data set"
        )
    try:
        check_images(test_data.images)
    except BadValue as error:
        raise EnvironmentProblem(f"the data set's {error}") from None
    return test_data.images.to(services.device)


def _require(values: Tensor | None, what: str, device: torch.device) -> Tensor:
    if values is None:
        raise BadComponent(f"the data set has no {what}; choose another, or other metrics")
    return values.to(device)


@value()
def labels(test_data: Data, *, services: Services) -> Tensor:
    """(N,) int64; a set without labels fails the cell."""
    return _require(test_data.labels, "labels", services.device)


@value()
def object_masks(test_data: Data, *, services: Services) -> Tensor:
    """(N, H, W), 1 on the object, 0 off it, 0.5 where void: the data set's; a set without them fails the cell."""
    return _require(test_data.object_masks, "object masks", services.device)


@value()
def gaze(test_data: Data, *, services: Services) -> Tensor:
    """(N, H, W): where people looked; a set without it fails the cell."""
    return _require(test_data.gaze, "gaze maps", services.device)


@value(keyed=False)
def recipe(train_data: Data, model: Model, schedule: Schedule, seed: int) -> Recipe:
    """How the case trains whatever it trains: data, model, schedule and seed."""
    return Recipe(train_data, model, schedule, seed)


@value(version=2, stored=True, runs=("defense", "model"))
def trained(recipe: Recipe, defense: Defense, *, services: Services) -> dict[str, Tensor]:
    """The weights that a defense gives."""

    def trained_by(other: Defense, seed: int) -> tuple[nn.Module, list[Phase]]:
        graph = services.with_defense(other, seed)
        return graph.get("network"), graph.cost("trained")

    # Copies, here and below: whoever made a tensor may still hold it.
    weights = defense.train(recipe.fit(services, trained_by)).state_dict()
    return {name: tensor.clone() for name, tensor in weights.items()}


@value(runs=("model", "defense"))
def network(trained: dict[str, Tensor], recipe: Recipe, defense: Defense, *, services: Services) -> nn.Module:
    """The trained network, in eval mode, frozen; maps images in [0, 1] to logits."""
    return recipe.build(defense, trained, services.device)


def _logits(network: nn.Module, images: Tensor, name: str, test_data: Data) -> Tensor:
    with torch.no_grad():
        logits: Tensor = chunked(
            lambda part: check_logits(network(part), part), images, seed=0, name=name, indices=test_data.rows
        )
    if logits.shape[1] < 2:
        raise BadComponent("the network has one class, so its predictions are never wrong or changed; use another")
    if not logits.isfinite().all():
        raise BadComponent(f"{name}: the network's logits are not finite; lower the schedule's rate")
    return logits


@contextlib.contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Restores a network's modes afterwards, whatever a component does to them inside."""
    try:
        yield
    finally:
        network.eval().requires_grad_(False)


@value(runs=("model",))
def clean_logits(network: nn.Module, images: Tensor, test_data: Data) -> Tensor:
    """(N, K) at the clean images."""
    return _logits(network, images, "clean_logits", test_data)


@value()
def targets(target: str, clean_logits: Tensor, test_data: Data, *, services: Services) -> Tensor:
    """(N,) int64: the class explained, fixed on the clean images."""
    if target == "label":
        return _require(test_data.labels, "labels", services.device)
    return choose_class(target, clean_logits)


def _prepare(explainer: Explainer, network: nn.Module, recipe: Recipe, services: Services) -> Prepared:
    if not explainer.prepares:
        return {}

    def trained_by(defense: Defense, seed: int) -> tuple[nn.Module, list[Phase]]:
        raise BadComponent(f"explainer {explainer} asks for the network of {defense}; it may learn from its own alone")

    def make(services: Services) -> Prepared:
        with torch.enable_grad(), _frozen(network):
            learned = explainer.prepare(network, recipe.data, recipe.fit(services, trained_by))
        if not learned or not all(isinstance(tensor, Tensor) for tensor in learned.values()):
            raise BadComponent(f"explainer {explainer} prepared no tensors; leave prepare out if it learns nothing")
        return {name: tensor.detach().to(services.device, copy=True) for name, tensor in learned.items()}

    # Keyed by the explainer's identity and not by its axis: as a surrogate it learns the same.
    spec = services.spec_of(f"prepared/{explainer.identity}", ("network",))
    return services.store_extra("prepared", spec, make)[0]


@value(runs=("explainer",))
def prepared(explainer: Explainer, network: nn.Module, recipe: Recipe, *, services: Services) -> Prepared:
    """What the explainer has learned about the network, tensors by name; empty for most."""
    return _prepare(explainer, network, recipe, services)


@value(runs=("surrogate",))
def prepared_surrogate(surrogate: Explainer, network: nn.Module, recipe: Recipe, *, services: Services) -> Prepared:
    """What the surrogate has learned about the network; the same where surrogate and explainer are the same."""
    return _prepare(surrogate, network, recipe, services)


@value(keyed=False)
def attribute(network: nn.Module, explainer: Explainer, prepared: Prepared, seed: int, test_data: Data) -> Attribute:
    """A function (images, targets, name, log) -> attributions of changed test images, without a graph.

    `name` is that of the noise; what it costs is appended to the log.
    """

    def attribute_chunk(images: Tensor, targets: Tensor) -> Tensor:
        # Copies, here and for attacks: a component that works in place must not reach the next one.
        attributions = explainer.attributions(network, images.clone(), targets.clone(), prepared)
        if attributions.shape not in {(len(images), channels, *images.shape[2:]) for channels in (1, images.shape[1])}:
            form, shape = tuple(attributions.shape), tuple(images.shape)
            raise BadComponent(f"explainer {explainer} returned {form} for images {shape}; return that shape")
        if not attributions.isfinite().all():
            raise BadComponent(f"explainer {explainer} returned NaN or infinity; return zeros where it is undefined")
        return attributions

    def attribute_all(images: Tensor, targets: Tensor, name: str, log: list[Phase]) -> Tensor:
        with torch.no_grad(), _frozen(network), measure(log, "explain", network) as passes, passes:
            result: Tensor = chunked(attribute_chunk, images, targets, seed=seed, name=name, indices=test_data.rows)
        return result

    return attribute_all


@value(stored=True, runs=("explainer", "model"))
def clean_attributions(attribute: Attribute, images: Tensor, targets: Tensor, *, services: Services) -> Tensor:
    """(N, C or 1, H, W): raw and signed, at the clean images."""
    return attribute(images, targets, "clean_attributions", services.log)


@value()
def clean_maps(clean_attributions: Tensor) -> Tensor:
    """(N, H, W): maps of the clean images; each sums to one, or is zero and undefined."""
    return reduce(clean_attributions)


@value(version=2)
def clean_masks(explainer: Explainer, clean_attributions: Tensor) -> Tensor:
    """(N, C or 1, H, W) in [0, 1]: the explainer's own mask of each clean image, by its rule; not the object's."""
    return mask(clean_attributions, explainer.mask_rule)


@value(stored=True, version=3, runs=("attack", "surrogate", "model"))
def attack_run(
    network: nn.Module,
    defense: Defense,
    surrogate: Explainer,
    prepared_surrogate: Prepared,
    attack: Attack,
    ball: Ball,
    images: Tensor,
    targets: Tensor,
    seed: int,
    train_data: Data,
    test_data: Data,
    *,
    services: Services,
) -> dict[str, Tensor]:
    """The attacked images, and what the attack reports of each; in the ball of a transformation, also its parameters.

    For an attack with an objective, also its values before and after on the real network, and the error of its gradient
    against finite differences on the first images.
    """

    reports: dict[str, Tensor] = {}
    victim = make_victim(network, defense, surrogate, prepared_surrogate, attack, train_data, images, services)
    victim = dataclasses.replace(victim, report=reports.__setitem__)
    others = {*victim.sources} - {network}

    def run(images: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        reports.clear()
        raw = attack.perturb(victim, images.clone(), targets.clone(), ball)
        form = tuple(ball.center(images).shape)
        if raw.shape != form:
            about = "; return that shape" if ball.space == "images" else f"; in {ball}, return parameters {form}"
            raise BadComponent(f"attack {attack} returned {tuple(raw.shape)} for images {tuple(images.shape)}{about}")
        if raw.dtype != images.dtype:
            raise BadComponent(f"attack {attack} returned {raw.dtype} for images in {images.dtype}; return that type")
        if not raw.isfinite().all():
            raise BadComponent(f"attack {attack} returned {ball.space} with NaN or infinity; keep the last finite ones")
        # Projected here and not in the attack: a bound the attack enforces is a bound the attack may forget.
        points = ball.project(raw.detach(), images)
        made = [points] if ball.space == "images" else [ball.apply(points, images), points]
        with torch.no_grad():
            loss = attack.make_point_loss(victim, images, targets, ball)
            if loss is None:
                return (*made, *reports.values())
            # The same noise before and after, so that the difference is the attack's.
            with noise.call(0):
                before = loss(ball.center(images))
            with noise.call(0):
                after = loss(points)
        if not (before.isfinite() & after.isfinite()).all():
            raise BadComponent(
                f"attack {attack} has an objective that is not finite on the maps of {surrogate}; use another surrogate"
            )
        return *made, *reports.values(), before, after

    with contextlib.ExitStack() as around, _frozen(network), measure(services.log, "attack", network) as passes, passes:
        for other in others:
            around.enter_context(_frozen(other))
            around.enter_context(passes.watch(other))
        results = chunked(run, images, targets, seed=seed, name="attack_run", indices=test_data.rows)
    made = ["images", *(["parameters"] if ball.space == "parameters" else [])]
    names = [*made, *(REPORTED + name for name in reports)]
    if len(results) == len(names):
        return dict(zip(names, results, strict=True))
    few = slice(COMPARED)
    try:
        error = check_gradient(victim, attack, ball, images[few], targets[few], seed, test_data.rows[few])
    except RuntimeError:  # a network that computes in single precision whatever its input; the attack stands, flagged
        error = torch.full((len(images[few]),), torch.nan, dtype=torch.float64)
    return {**dict(zip([*names, "before", "after"], results, strict=True)), "gradient_error": error}


@value(stored=True, runs=("attack", "surrogate", "model"))
def attack_checks(
    network: nn.Module,
    defense: Defense,
    surrogate: Explainer,
    prepared_surrogate: Prepared,
    attack: Attack,
    ball: Ball,
    images: Tensor,
    targets: Tensor,
    seed: int,
    train_data: Data,
    test_data: Data,
    attack_run: dict[str, Tensor],
    *,
    services: Services,
) -> dict[str, Tensor]:
    """Figures of `check_attack` on the first images, for an attack that follows a gradient to move maps; else none."""
    if "after" not in attack_run or attack.beta is None or not attack.moves_maps or not ball.eps:
        return {}

    victim = make_victim(network, defense, surrogate, prepared_surrogate, attack, train_data, images, services)
    points = attack_run["parameters" if ball.space == "parameters" else "images"]
    few = slice(min(CHECKED, max(LEAST, len(images) // 2)))
    with _frozen(network), measure(services.log, "check", network) as passes, passes:
        return check_attack(victim, attack, ball, seed, images[few], targets[few], points[few], test_data.rows[few])


@value(stored=True, runs=("explainer", "model"))
def map_checks(
    network: nn.Module,
    explainer: Explainer,
    prepared: Prepared,
    clean_maps: Tensor,
    clean_logits: Tensor,
    images: Tensor,
    targets: Tensor,
    seed: int,
    test_data: Data,
    *,
    services: Services,
) -> dict[str, Tensor]:
    """Figures of `compare_maps` on all images, and of `check_maps` on the first."""
    victim, few = Victim(network, explainer, prepared=prepared), slice(CHECKED)
    with _frozen(network), measure(services.log, "check", network) as passes, passes:
        figures = check_maps(victim, images[few], targets[few], clean_logits.shape[1], seed, test_data.rows[few])
    return compare_maps(clean_maps, targets) | figures


@value()
def attacked_images(attack_run: dict[str, Tensor]) -> Tensor:
    """(N, C, H, W) in [0, 1], projected to the budget."""
    return attack_run["images"]


@value()
def attack_success(attack_run: dict[str, Tensor], images: Tensor) -> Tensor:
    """(N,) bool: whether the objective fell; for an attack without one, whether the image changed."""
    if "after" in attack_run:
        return attack_run["after"] < attack_run["before"]
    return (attack_run["images"] != images).flatten(1).any(1)


@value()
def attack_reports(attack_run: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the attack reports of each image: numbers (N,) by name; none for most attacks."""
    return {name.removeprefix(REPORTED): tensor for name, tensor in attack_run.items() if name.startswith(REPORTED)}


@value(runs=("model",))
def attacked_logits(network: nn.Module, attacked_images: Tensor, test_data: Data) -> Tensor:
    """(N, K) at the attacked images."""
    return _logits(network, attacked_images, "attacked_logits", test_data)


@value(stored=True, runs=("explainer", "model"))
def attacked_attributions(
    attribute: Attribute, attacked_images: Tensor, targets: Tensor, *, services: Services
) -> Tensor:
    """(N, C or 1, H, W): raw and signed, at the attacked images, of the same classes."""
    return attribute(attacked_images, targets, "attacked_attributions", services.log)


@value()
def attacked_maps(attacked_attributions: Tensor) -> Tensor:
    """(N, H, W): maps of the attacked images; each sums to one, or is zero and undefined."""
    return reduce(attacked_attributions)


@value(version=2)
def attacked_masks(explainer: Explainer, attacked_attributions: Tensor) -> Tensor:
    """(N, C or 1, H, W) in [0, 1]: the explainer's own mask of each attacked image."""
    return mask(attacked_attributions, explainer.mask_rule)


@value()
def kept(clean_logits: Tensor, attacked_logits: Tensor) -> Tensor:
    """(N,) bool: whether the attack leaves the prediction alone."""
    return clean_logits.argmax(1) == attacked_logits.argmax(1)


@value()
def explain(explainer: Explainer, prepared: Prepared, seed: int, test_data: Data) -> Callable[..., Tensor]:
    """A function (network, images, targets, indices=None, raw=False) -> maps, in chunks, without a graph.

    Pass `indices` for images that are not the test images, and `raw` for attributions in place of maps. What the
    explainer has learned is about the case's network, whichever network it explains.
    """

    def maps(
        network: nn.Module, images: Tensor, targets: Tensor, indices: Tensor | None = None, raw: bool = False
    ) -> Tensor:
        def one(images: Tensor, targets: Tensor) -> Tensor:
            attributions = explainer.attributions(network, images, targets, prepared)
            return attributions if raw else reduce(attributions)

        rows = test_data.rows if indices is None else indices
        with torch.no_grad():
            result: Tensor = chunked(one, images, targets, seed=seed, name="explain", indices=rows)
        return result

    return maps


@value()
def refit(recipe: Recipe, defense: Defense, *, services: Services) -> Refit:
    """A function (data, name, seed=the case's) -> network: trains the defense on other data of the same form."""
    return Refit(recipe, defense, services)


@value()
def training(trained: Any, *, services: Services) -> list[Phase]:
    """What training cost: a list of Phase(name, seconds, peak_bytes, forwards, backwards)."""
    return services.cost("trained")


@value()
def explaining(clean_attributions: Any, *, services: Services) -> list[Phase]:
    """What the clean attributions cost: a list of Phase."""
    return services.cost("clean_attributions")


@value()
def attacking(attack_run: Any, *, services: Services) -> list[Phase]:
    """What the attack cost: a list of Phase."""
    return services.cost("attack_run")


VOCABULARY = Vocabulary(v for v in list(globals().values()) if isinstance(v, Value))
