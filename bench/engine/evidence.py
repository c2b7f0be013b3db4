"""The vocabulary: what the harness computes for a case, one function per value.

Positional parameters say what a value is made from; keyword-only ones are services of the harness (see graph.py).
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from bench import noise
from bench.components.base import Component
from bench.components.kinds import (
    Attack,
    Ball,
    Data,
    Dataset,
    Defense,
    Explainer,
    Model,
    Prepared,
    Schedule,
    Victim,
    checked_logits,
    mask,
    reduce,
)
from bench.engine.graph import Graph, Value, Vocabulary, value
from bench.engine.store import Unfinished
from bench.engine.training import Fit, Phase, measured
from bench.errors import BadComponent, EnvironmentProblem
from bench.gradients import CHUNK, slope, softened

LOOKED_AT = 3  # images on which the gradient that an attack follows is compared with finite differences
REFERENCES = 16  # training images whose maps an attack may aim at
STEP = 1e-8  # their half-width: small, since a max-pooling that switches within it makes a map jump


def chunked(function: Callable[..., Any], *tensors: Tensor, seed: int, name: str, indices: Tensor) -> Any:
    """Apply a function of rows to tensors chunk by chunk, each under `noise.rows`; a tensor, or a tuple of them.

    Chunks are halved when memory runs out.
    """
    start, total = 0, len(tensors[0])
    size = min(total, max(1, CHUNK.get(tensors[0].device.type, CHUNK["cpu"]) // tensors[0][0].numel()))
    found: list[tuple[Tensor, ...]] = []
    with tqdm(total=total, desc=name, unit="image", leave=False, disable=None, delay=1) as bar:
        while start < total:
            part = slice(start, start + size)
            try:
                with noise.rows(seed, name, indices[part]):
                    result = function(*(tensor[part] for tensor in tensors))
            except (MemoryError, RuntimeError) as error:
                if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(
                    error
                ):
                    raise
                if size == 1:
                    raise EnvironmentProblem(f"{name}: one image does not fit into the device's memory") from None
                size = (size + 1) // 2
                continue
            found.append(result if isinstance(result, tuple) else (result,))
            bar.update(min(size, total - start))
            start += size
    joined = tuple(torch.cat(parts) for parts in zip(*found, strict=True))
    return joined if isinstance(result, tuple) else joined[0]


@value()
def train_data(dataset: Dataset) -> Data:
    """The training images, a Data; never a validation row."""
    return dataset.load("train")


@value()
def test_data(dataset: Dataset, split: str, samples: int) -> Data:
    """The images measured on, a Data."""
    data = dataset.load(split)
    if not len(data):
        raise EnvironmentProblem(f"dataset {dataset} has no {split} images; choose another --split")
    return data.at(data.choice(samples))


@value()
def images(test_data: Data, *, device: torch.device) -> Tensor:
    """(N, C, H, W) in [0, 1]: the clean images."""
    bad = (~test_data.images.flatten(1).isfinite().all(1)).nonzero()
    if len(bad):
        raise EnvironmentProblem(
            f"image {int(test_data.indices[bad[0]])} of the data set holds a value that is not finite; mend it"
        )
    return test_data.images.to(device)


def _given(values: Any, what: str, device: torch.device) -> Tensor:
    if values is None:
        raise BadComponent(f"the data set has no {what}")
    return values.to(device)


@value()
def labels(test_data: Data, *, device: torch.device) -> Tensor:
    """(N,) int64; a set without labels fails the cell."""
    return _given(test_data.labels, "labels", device)


@value()
def object_masks(test_data: Data, *, device: torch.device) -> Tensor:
    """(N, H, W), one on the object: the data set's; a set without them fails the cell."""
    return _given(test_data.object_masks, "object masks", device)


@value()
def gaze(test_data: Data, *, device: torch.device) -> Tensor:
    """(N, H, W): where people looked; a set without it fails the cell."""
    return _given(test_data.gaze, "gaze maps", device)


@value(stored=True)
def trained(
    train_data: Data,
    model: Model,
    defense: Defense,
    schedule: Schedule,
    seed: int,
    *,
    device: torch.device,
    unfinished: Unfinished,
    log: list[Phase],
    beside: Callable[[Defense], Graph],
) -> dict[str, Tensor]:
    """The weights that a defense gives."""

    def trained_by(other: Defense) -> tuple[nn.Module, list[Phase]]:
        graph = beside(other)
        return graph.get("network"), [Phase(**row) for row in graph.cost("trained")]

    fit = Fit(train_data, model, schedule, seed, device, unfinished, log, trained_by)
    return defense.train(fit).state_dict()


@value()
def network(trained: dict[str, Tensor], model: Model, train_data: Data, *, device: torch.device) -> nn.Module:
    """The trained network, in eval mode, frozen; maps images in [0, 1] to logits."""
    return _built(trained, model, train_data, device)


def _built(weights: dict[str, Tensor], model: Model, data: Data, device: torch.device) -> nn.Module:
    built = model.build(data.shape, len(data.classes)).to(device)
    built.load_state_dict(weights)
    return built.eval().requires_grad_(False)


def _logits(network: nn.Module, images: Tensor, name: str, test_data: Data) -> Tensor:
    with torch.no_grad():
        found = chunked(
            lambda part: checked_logits(network(part), part), images, seed=0, name=name, indices=test_data.indices
        )
    if found.shape[1] < 2:
        raise BadComponent("the network has one class: no prediction of it can be right or wrong, kept or changed")
    if not found.isfinite().all():
        raise BadComponent(f"{name}: the network's logits are not finite; lower the schedule's rate")
    return found


@contextlib.contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Inside, a component may do what it likes to a network's modes: later cells meet it as it was."""
    try:
        yield
    finally:
        network.eval().requires_grad_(False)


@value()
def clean_logits(network: nn.Module, images: Tensor, test_data: Data) -> Tensor:
    """(N, K) at the clean images."""
    return _logits(network, images, "clean_logits", test_data)


@value()
def targets(target: str, clean_logits: Tensor, test_data: Data, *, device: torch.device) -> Tensor:
    """(N,) int64: the class explained, fixed on the clean images."""
    return clean_logits.argmax(1) if target == "predicted" else _given(test_data.labels, "labels", device)


def _prepared(
    explainer: Explainer,
    network: nn.Module,
    train_data: Data,
    model: Model,
    schedule: Schedule,
    seed: int,
    device: torch.device,
    aside: Callable[..., tuple[Prepared, list[dict[str, Any]]]],
    asked: Callable[[str, tuple[str, ...]], str],
) -> Prepared:
    def alone(defense: Defense) -> tuple[nn.Module, list[Phase]]:
        raise BadComponent(
            f"explainer {explainer} asks for what {defense} trains; it may learn of its own network alone"
        )

    def make(services: Mapping[str, Any]) -> Prepared:
        fit = Fit(train_data, model, schedule, seed, device, services["unfinished"], services["log"], alone)
        with torch.enable_grad(), _frozen(network):
            found = explainer.prepare(network, train_data, fit)
        if not found or not all(isinstance(tensor, Tensor) for tensor in found.values()):
            raise BadComponent(f"explainer {explainer} prepared no tensors; leave prepare out where nothing is learned")
        return {name: tensor.detach() for name, tensor in found.items()}

    # Under the explainer's identity and not its axis: as a surrogate it has learned the same.
    return (
        aside("prepared", asked(f"prepared/{explainer.identity}", ("network",)), make)[0] if explainer.prepares else {}
    )


@value()
def prepared(
    explainer: Explainer,
    network: nn.Module,
    train_data: Data,
    model: Model,
    schedule: Schedule,
    seed: int,
    *,
    device: torch.device,
    aside: Callable[..., tuple[Prepared, list[dict[str, Any]]]],
    asked: Callable[[str, tuple[str, ...]], str],
) -> Prepared:
    """What the explainer has learned of the network, tensors by name; empty for most."""
    return _prepared(explainer, network, train_data, model, schedule, seed, device, aside, asked)


@value()
def prepared_surrogate(
    surrogate: Explainer,
    network: nn.Module,
    train_data: Data,
    model: Model,
    schedule: Schedule,
    seed: int,
    *,
    device: torch.device,
    aside: Callable[..., tuple[Prepared, list[dict[str, Any]]]],
    asked: Callable[[str, tuple[str, ...]], str],
) -> Prepared:
    """What the surrogate has learned of the network, the same where the two are the same."""
    return _prepared(surrogate, network, train_data, model, schedule, seed, device, aside, asked)


def _attributions(
    network: nn.Module,
    explainer: Explainer,
    prepared: Prepared,
    images: Tensor,
    targets: Tensor,
    seed: int,
    name: str,
    test_data: Data,
    log: list[Phase],
) -> Tensor:
    def attribute(images: Tensor, targets: Tensor) -> Tensor:
        # Copies, here and for attacks: what works in place must not reach the next component.
        found = explainer.attributions(network, images.clone(), targets.clone(), prepared)
        if found.shape not in {(len(images), channels, *images.shape[2:]) for channels in (1, images.shape[1])}:
            raise BadComponent(f"explainer {explainer} returned {tuple(found.shape)} for images {tuple(images.shape)}")
        if not found.isfinite().all():
            raise BadComponent(f"explainer {explainer} returned values that are not finite")
        return found

    with torch.no_grad(), _frozen(network), measured(log, "explain", network) as passes, passes:
        return chunked(attribute, images, targets, seed=seed, name=name, indices=test_data.indices)


@value(stored=True)
def clean_attributions(
    network: nn.Module,
    explainer: Explainer,
    prepared: Prepared,
    images: Tensor,
    targets: Tensor,
    seed: int,
    test_data: Data,
    *,
    log: list[Phase],
) -> Tensor:
    """(N, C or 1, H, W): raw and signed, at the clean images."""
    return _attributions(network, explainer, prepared, images, targets, seed, "clean_attributions", test_data, log)


@value()
def clean_maps(clean_attributions: Tensor) -> Tensor:
    """(N, H, W): maps of the clean images; each sums to one, or is zero and undefined."""
    return reduce(clean_attributions)


@value()
def clean_masks(explainer: Explainer, clean_attributions: Tensor) -> Tensor:
    """(N, C or 1, H, W) in [0, 1]: the explainer's own mask of each clean image, by its rule; not the object's."""
    return mask(clean_attributions, explainer.mask_rule)


def _gradient_error(
    victim: Victim, attack: Attack, images: Tensor, targets: Tensor, seed: int, rows: Tensor
) -> Tensor | None:
    """How far the gradient that an attack follows is from finite differences, relative to either, on a few images in
    float64, near the clean ones: (n,); None for an attack that follows none."""
    exact = dataclasses.replace(
        victim,
        network=copy.deepcopy(victim.network).double(),
        references=victim.references.double(),
        prepared={n: t.double() if t.is_floating_point() else t for n, t in victim.prepared.items()},
    )
    clean = images.double()
    with noise.rows(seed, "gradient_error", rows):
        objective = attack.objective(exact, clean, targets)
        if objective is None:
            return None
        start, direction = clean + 0.01 * noise.uniform(clean), noise.normal(clean)

        def value(moved: Tensor) -> Tensor:
            with noise.call(0), contextlib.nullcontext() if attack.beta is None else softened(attack.beta):
                return objective(moved)

        with torch.enable_grad():
            leaf = start.requires_grad_()
            gradient = slope(value(leaf), leaf)
        with torch.no_grad():
            found = (value(start + STEP * direction) - value(start - STEP * direction)) / (2 * STEP)
    followed = (gradient * direction).flatten(1).sum(1)
    return (followed - found).abs() / (followed.abs() + found.abs()).clamp(min=1e-12)


def defenses_in(component: Component) -> Iterator[Defense]:
    """The defenses among a component's parameters, and among those of the components in it."""
    for name in (parameter.name for parameter in dataclasses.fields(component)):
        part = getattr(component, name)
        if isinstance(part, Defense):
            yield part
        if isinstance(part, Component):
            yield from defenses_in(part)


def references(train_data: Data, images: Tensor) -> Tensor:
    """The training images whose maps an attack may aim at, the same for all; none of a set to test on alone."""
    if not len(train_data):  # a set to test on alone
        return images[:0]
    return train_data.at(train_data.choice(min(REFERENCES, len(train_data)))).images.to(images.device)


@value(stored=True, version=3)
def attack_run(
    network: nn.Module,
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
    log: list[Phase],
    beside: Callable[[Defense], Graph],
) -> dict[str, Tensor]:
    """The attacked images; where the attack has an objective, that before and after on the real network, and how far
    its gradient is from finite differences on the first images."""

    def trained_by(defense: Defense) -> nn.Module:
        return beside(defense).get("network")

    victim = Victim(network, surrogate, references(train_data, images), trained_by, prepared_surrogate)
    # Trained before the clock starts: what that costs is told beside their weights.
    others = {trained_by(defense) for defense in defenses_in(attack)} - {network}

    def run(images: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        raw = attack.perturb(victim, images.clone(), targets.clone(), ball)
        if raw.shape != images.shape:
            raise BadComponent(f"attack {attack} returned {tuple(raw.shape)} for images {tuple(images.shape)}")
        if raw.dtype != images.dtype:
            raise BadComponent(f"attack {attack} returned {raw.dtype} for images in {images.dtype}")
        if not raw.isfinite().all():
            raise BadComponent(f"attack {attack} returned images that are not finite")
        # Projected here and not in the attack: a bound the attack enforces is a bound the attack may forget.
        attacked = ball.project(raw.detach(), images)
        with torch.no_grad():
            objective = attack.objective(victim, images, targets)
            if objective is None:
                return (attacked,)
            # The same noise before and after, so that the difference is the attack's.
            with noise.call(0):
                before = objective(images)
            with noise.call(0):
                after = objective(attacked)
        if not (before.isfinite() & after.isfinite()).all():
            raise BadComponent(f"attack {attack} has an objective that is not finite on the maps of {surrogate}")
        return attacked, before, after

    with contextlib.ExitStack() as around, _frozen(network), measured(log, "attack", network) as passes, passes:
        for other in others:
            around.enter_context(_frozen(other))
            around.enter_context(passes.watch(other))
        found = chunked(run, images, targets, seed=seed, name="attack_run", indices=test_data.indices)
    if len(found) == 1:
        return {"images": found[0]}
    few = slice(LOOKED_AT)
    try:
        error = _gradient_error(victim, attack, images[few], targets[few], seed, test_data.indices[few])
    except RuntimeError:  # a network that computes in single precision whatever it is given; the attack stands, flagged
        error = torch.full((len(images[few]),), torch.nan, dtype=torch.float64)
    return {**dict(zip(("images", "before", "after"), found, strict=True)), "gradient_error": error}


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
def attacked_logits(network: nn.Module, attacked_images: Tensor, test_data: Data) -> Tensor:
    """(N, K) at the attacked images."""
    return _logits(network, attacked_images, "attacked_logits", test_data)


@value(stored=True)
def attacked_attributions(
    network: nn.Module,
    explainer: Explainer,
    prepared: Prepared,
    attacked_images: Tensor,
    targets: Tensor,
    seed: int,
    test_data: Data,
    *,
    log: list[Phase],
) -> Tensor:
    """(N, C or 1, H, W): raw and signed, at the attacked images, of the same classes."""
    name = "attacked_attributions"
    return _attributions(network, explainer, prepared, attacked_images, targets, seed, name, test_data, log)


@value()
def attacked_maps(attacked_attributions: Tensor) -> Tensor:
    """(N, H, W): maps of the attacked images; each sums to one, or is zero and undefined."""
    return reduce(attacked_attributions)


@value()
def attacked_masks(explainer: Explainer, attacked_attributions: Tensor) -> Tensor:
    """(N, C or 1, H, W) in [0, 1]: the explainer's own mask of each attacked image."""
    return mask(attacked_attributions, explainer.mask_rule)


@value()
def kept(clean_logits: Tensor, attacked_logits: Tensor) -> Tensor:
    """(N,) bool: whether the attack leaves the prediction alone."""
    return clean_logits.argmax(1) == attacked_logits.argmax(1)


@value()
def explain(explainer: Explainer, prepared: Prepared, seed: int, test_data: Data) -> Callable[..., Tensor]:
    """A function (network, images, targets) -> maps, in chunks, without a graph; of images that are not those measured
    on also their indices. What the explainer has learned is of the case's network, whatever is explained."""

    def maps(network: nn.Module, images: Tensor, targets: Tensor, indices: Tensor | None = None) -> Tensor:
        def one(images: Tensor, targets: Tensor) -> Tensor:
            return explainer.maps(network, images, targets, prepared)

        rows = test_data.indices if indices is None else indices
        with torch.no_grad():
            return chunked(one, images, targets, seed=seed, name="explain", indices=rows)

    return maps


@dataclass(frozen=True)
class Refit:
    """Trains as a case does, on other data of the same form; weights are stored for the metric that asks, so that an
    interrupted run goes on. `asked` gives, from a name and evidence, the spec under which; `log` says what all of them
    cost."""

    model: Model
    defense: Defense
    schedule: Schedule
    seed: int
    device: torch.device
    aside: Callable[..., tuple[dict[str, Tensor], list[dict[str, Any]]]]
    asked: Callable[[str, tuple[str, ...] | None], str] | None = None
    log: list[Phase] = field(default_factory=list)

    def __call__(
        self, data: Data, name: str, seed: int | None = None, using: tuple[str, ...] | None = None
    ) -> nn.Module:
        """The network, in eval mode, frozen. `name` tells the trainings of one metric apart. The data follow from the
        metric's parameters, the name and the evidence `using` besides the training data; None for all that the metric
        asks for. What is left out shares the training: other explainers, say. `seed`: another than the case's. A
        teacher is trained on the same data."""
        seed = self.seed if seed is None else seed
        network, phases = self._trained(self.defense, data, f"{name}/{seed}", seed, using)
        self.log.extend(phases)
        return network

    def _trained(
        self, defense: Defense, data: Data, name: str, seed: int, using: tuple[str, ...] | None
    ) -> tuple[nn.Module, list[Phase]]:
        def trained_by(other: Defense) -> tuple[nn.Module, list[Phase]]:
            return self._trained(other, data, f"{name}/{other.identity}", seed, using)

        def make(services: Mapping[str, Any]) -> dict[str, Tensor]:
            fit = Fit(
                data, self.model, self.schedule, seed, self.device, services["unfinished"], services["log"], trained_by
            )
            with torch.enable_grad():  # metrics are computed without
                return defense.train(fit).state_dict()

        weights, cost = self.aside("refit", self.asked(name, using), make)
        return _built(weights, self.model, data, self.device), [Phase(**row) for row in cost]


@value()
def refit(
    train_data: Data,
    model: Model,
    defense: Defense,
    schedule: Schedule,
    seed: int,
    *,
    device: torch.device,
    aside: Callable[..., tuple[dict[str, Tensor], list[dict[str, Any]]]],
) -> Refit:
    """A function (data, name, seed=the case's) -> network: what the defense trains from other data of the same form."""
    return Refit(model, defense, schedule, seed, device, aside)


@value()
def training(trained: Any, *, cost: Callable[[str], list[dict[str, Any]]]) -> list[Phase]:
    """What training cost: a list of Phase(name, seconds, peak_bytes, forwards, backwards)."""
    return [Phase(**row) for row in cost("trained")]


@value()
def explaining(clean_attributions: Any, *, cost: Callable[[str], list[dict[str, Any]]]) -> list[Phase]:
    """What the clean attributions cost: a list of Phase."""
    return [Phase(**row) for row in cost("clean_attributions")]


@value()
def attacking(attack_run: Any, *, cost: Callable[[str], list[dict[str, Any]]]) -> list[Phase]:
    """What the attack cost: a list of Phase."""
    return [Phase(**row) for row in cost("attack_run")]


VOCABULARY = Vocabulary(v for v in list(globals().values()) if isinstance(v, Value))
