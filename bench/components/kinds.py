"""The seven kinds of component, what passes between them, and every convention of shape, range and unit.

Images are floats in [0, 1], (B, C, H, W); labels and targets int64, (B,). A network maps such images to logits (B, K)
and normalises inside itself. Budgets are in pixel units of [0, 1]. An attribution is raw and signed, (B, C or 1, H, W);
a map is its absolute sum over channels divided by its total, (B, H, W), and stays zero where the attribution is zero:
an undefined value. The class explained, the target, is fixed on the clean image.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bench import noise
from bench.components.base import Component, param
from bench.components.files import data_dir
from bench.errors import BadComponent, BadValue, BenchError, EnvironmentProblem, short

if typing.TYPE_CHECKING:
    from bench.engine.training import Fit

Prepared = dict[str, Tensor]


@dataclass(frozen=True)
class Data:
    """One split of a data set, empty where the set has none. `images[indices]` gives float images (n, C, H, W): a
    tensor, or anything of a `shape` that decodes on demand. `object_masks` and `gaze` are (N, H, W) in [0, 1];
    `fingerprint`
    stands for the content of all the files of the set; `note` is told below every table; `indices` are the rows' places
    in the split, None for all of it."""

    images: Any
    labels: Tensor | None
    classes: tuple[str, ...]
    object_masks: Any = None
    gaze: Any = None
    fingerprint: str = ""
    note: str = ""
    indices: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """That of an image: (C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def choice(self, samples: int) -> Tensor:
        """A fixed choice of rows, in order: as many of each class as of every other, and part of every larger choice.

        Raises EnvironmentProblem where there are not so many rows.
        """
        count = len(self)
        if samples > count:
            raise EnvironmentProblem(f"{samples} samples were asked, the split has {count}; ask for {count} or fewer")
        with noise.rows(0, "samples", range(count)):
            order = noise.uniform(torch.empty(count, 1))[:, 0].argsort(stable=True)
        if self.labels is not None:
            turn = torch.empty(count, dtype=torch.int64)
            for label in self.labels.unique():
                mine = self.labels[order] == label
                turn[mine] = torch.arange(int(mine.sum()))
            order = order[turn.argsort(stable=True)]
        return order[:samples].sort().values

    def at(self, rows: Tensor) -> Data:
        """Some rows, decoded."""
        images, labels, masks, gaze = (
            None if values is None else values[rows]
            for values in (self.images, self.labels, self.object_masks, self.gaze)
        )
        return dataclasses.replace(self, images=images, labels=labels, object_masks=masks, gaze=gaze, indices=rows)


@dataclass(frozen=True)
class Ball:
    """The budget of an attack: all images within eps of the clean one in a norm, in pixel units of [0, 1]."""

    norm: Literal["linf", "l2"]
    eps: Fraction

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise BadValue(f"norm {self.norm!r}: choose linf or l2")
        if not isinstance(self.eps, int | float | Fraction):
            raise BadValue(f"eps {self.eps!r} is not a number; give a Fraction such as Fraction(8, 255)")
        # No two images are as far apart in l2 as a million, whatever their size.
        if not 0 <= self.eps <= (1 if self.norm == "linf" else 10**6):
            raise BadValue(
                f"eps {self.eps} is impossible: budgets are in pixel units of [0, 1]; write a fraction such as 8/255"
            )

    def __str__(self) -> str:
        return f"{self.norm}:{self.eps}"

    def project(self, images: Tensor, origin: Tensor) -> Tensor:
        """The nearest images in the ball around `origin`, then in [0, 1], which leaves none outside the ball."""
        eps = float(self.eps)
        if self.norm == "linf":
            inside = torch.minimum(torch.maximum(images, origin - eps), origin + eps)
        else:
            change = images - origin
            length = change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            inside = torch.where(length > eps, origin + change * (eps / length.clamp(min=1e-12)), images)
        return inside.clamp(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of unit length in the norm along which a function with this gradient rises most."""
        if self.norm == "linf":
            return gradient.sign()
        return gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)

    def sample(self, origin: Tensor) -> Tensor:
        """Images drawn uniformly from the ball around `origin`, clipped to [0, 1]."""
        eps = float(self.eps)
        if self.norm == "linf":
            return (origin + eps * noise.uniform(origin)).clamp(0, 1)
        direction = noise.normal(origin).flatten(1)
        with noise.repeat(1, len(origin)):  # numbers of its own, where nothing outside counts the draws
            radius = noise.uniform(origin[:, :1, :1, :1].double(), low=0.0)[:, :, 0, 0] ** (1 / direction.shape[1])
        change = direction / direction.norm(dim=1, keepdim=True) * radius.to(origin.dtype)
        return (origin + eps * change.view_as(origin)).clamp(0, 1)


class Normalised(nn.Module):
    """A network for images in [0, 1] from one for (image - mean) / std; mean and std per channel."""

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images - self.mean) / self.std)


def reduce(attribution: Tensor) -> Tensor:
    """The map of an attribution: (B, C, H, W) -> (B, H, W), non-negative, each of sum one, or all zero."""
    summed = attribution.abs().sum(1)
    total = summed.sum((1, 2), keepdim=True)
    # Two steps and not a clamp: a tiny but proper attribution keeps its map and its gradient.
    return summed / torch.where(total > 0, total, torch.ones_like(total))


def mask(attribution: Tensor, rule: str) -> Tensor:
    """A mask in [0, 1] per image: (B, C, H, W) -> (B, 1, H, W), or as it is under the rule "none".

    "percentile": absolute sum over channels, its minimum at 0 and its 99th percentile at 1; "minmax": the maximum at 1.
    """
    if rule == "none":
        return attribution.clamp(0, 1)
    flat = attribution.abs().sum(1).flatten(1)
    low = flat.min(1, keepdim=True).values
    high = flat.quantile(0.99, 1, keepdim=True) if rule == "percentile" else flat.max(1, keepdim=True).values
    scaled = (flat - low) / torch.where(high > low, high - low, torch.ones_like(high))
    return scaled.clamp(0, 1).view(len(flat), 1, *attribution.shape[2:])


def checked_logits(logits: Tensor, images: Tensor) -> Tensor:
    """The logits that a network gave for images. Raises BadComponent where they are not (B, K)."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        form = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise BadComponent(f"the network gives {form} for {len(images)} images; logits are ({len(images)}, classes)")
    return logits


def checked_eager(network: nn.Module) -> None:
    """Raise BadComponent where a network, or a part of it, is scripted or compiled: what replaces its activations, or
    watches its layers, would not reach inside."""
    for name, module in network.named_modules():
        scripted = isinstance(module, torch.jit.ScriptModule)
        if scripted or type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None:
            raise BadComponent(
                f"{f'layer {name}' if name else 'the network'} is {'scripted' if scripted else 'compiled'}, and its "
                "activations cannot be replaced; give the network as it was before"
            )


@dataclass(frozen=True)
class Victim:
    """What an attack sees: a frozen network in eval mode, and the explainer it is to mislead.

    Further, always in the harness: `references`, some training images (R, C, H, W), the same for every attack, whose
    maps may be aimed at; `trained_by(defense)`, the network that another defense trains in the same case; `prepared`,
    what the explainer has learned of the network, if it does. Raises
    BadComponent for a network that is scripted or compiled, or of one class.
    """

    network: nn.Module
    explainer: Explainer
    references: Tensor | None = None
    trained_by: Callable[[Defense], nn.Module] | None = None
    prepared: Prepared | None = None

    def __post_init__(self) -> None:
        checked_eager(self.network)

    def logits(self, images: Tensor) -> Tensor:
        return self._checked(self.network(images), images)

    def maps(self, images: Tensor, targets: Tensor) -> Tensor:
        return self.explainer.maps(self.network, images, targets, self.prepared)

    def both(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Maps and logits of the same images, (B, H, W) and (B, K), from one forward where that is possible."""
        attributions, logits = self.seen(images, targets)
        return reduce(attributions), logits

    def seen(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Attributions and logits of the same images, (B, C or 1, H, W) and (B, K): one forward where the explainer
        runs the network on the images themselves, one more where it does not."""
        seen: list[Tensor] = []

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            same = inputs and inputs[0].data_ptr() == images.data_ptr()
            if same and (inputs[0].shape, inputs[0].stride()) == (images.shape, images.stride()):
                seen.append(output)

        handle = self.network.register_forward_hook(keep)
        try:
            attributions = self.explainer.attributions(self.network, images, targets, self.prepared)
        finally:
            handle.remove()
        logits = self._checked(seen[0], images) if seen else self.logits(images)
        return attributions, logits if torch.is_grad_enabled() else logits.detach()

    def _checked(self, logits: Tensor, images: Tensor) -> Tensor:
        if checked_logits(logits, images).shape[1] < 2:
            raise BadComponent("the network has one class: there is no prediction that an attack could keep or change")
        return logits


@dataclass(frozen=True)
class Levels:
    """A score per image and named level: values (N, L). The value of a row is the mean over levels."""

    values: Tensor
    names: tuple[str, ...]


@dataclass(frozen=True)
class Undefined:
    """A metric has no value here; the reason is shown."""

    reason: str


@dataclass(frozen=True)
class Dataset(Component, ABC):
    """Images to train, validate and test on."""

    kind: ClassVar[str] = "dataset"
    provides: ClassVar[frozenset[str]] = frozenset({"labels"})

    @abstractmethod
    def load(self, split: str) -> Data:
        """The rows of "train", "validation" or "test"; quick: images may be decoded when they are asked for."""

    @property
    def identity(self) -> str:
        """The component's, with the fingerprint of the files that it reads, if it reads any."""
        fingerprint = _fingerprint(self, data_dir())
        return super().identity + (f"#{fingerprint}" if fingerprint else "")


@functools.cache
def _fingerprint(dataset: Dataset, folder: Path | None) -> str:
    try:
        return dataset.load("test").fingerprint
    except BenchError:
        raise
    except Exception as error:
        raise EnvironmentProblem(f"dataset {dataset} cannot be loaded ({short(error)})") from error


@dataclass(frozen=True)
class Model(Component, ABC):
    """An architecture."""

    kind: ClassVar[str] = "model"

    @property
    def smooth(self) -> bool:
        """Whether logits are twice differentiable with a second derivative that is not zero (max-pooling aside)."""
        return False

    @abstractmethod
    def build(self, shape: tuple[int, int, int], classes: int) -> Normalised:
        """A fresh network for images of a shape (C, H, W)."""


@dataclass(frozen=True)
class Schedule(Component, ABC):
    """How long and how a network is trained. The fields are declared here; a schedule gives their defaults."""

    kind: ClassVar[str] = "schedule"
    epochs: int = param(help="passes over the training images", low=1)
    batch: int = param(help="images in a step", low=1)
    optimiser: Literal["adam", "adamw", "sgd", "nesterov"] = param(help="of torch.optim; nesterov is sgd's variant")
    rate: float = param(help="learning rate", low=0)
    weight_decay: float = param(help="as the optimiser defines it", low=0)
    decay: tuple[int, ...] = param(help="epochs after which the rate is divided by 10", low=1)
    augmentation: Literal["none", "crop_flip", "rotate_flip_blur"] = param(
        help="crop_flip: zero padding of 4, random crop and flip; rotate_flip_blur: by up to 30 degrees, flip, blur"
    )
    clipping: float = param(help="largest l2 norm of the gradient over all weights; 0 for no clipping", low=0)
    limit: int = param(help="training images used, as many of each class; 0 for all", low=0)
    momentum: float = param(0.9, "of sgd and nesterov, and of the first moment of adam and adamw", low=0, high=0.9999)
    precision: Literal["float32", "tf32", "bfloat16"] = param(
        "float32", "of products while training: tf32 on a GPU, bfloat16 by autocast; second derivatives want float32"
    )

    def used(self, data: Data) -> Tensor:
        """The training images that are used, by their places in the data, in order."""
        return data.choice(self.limit) if self.limit else torch.arange(len(data))


@dataclass(frozen=True)
class Defense(Component, ABC):
    """A way of training. `trains`: whether the weights come from the data that it is given, so that it can be trained
    again on others."""

    kind: ClassVar[str] = "defense"
    trains: ClassVar[bool] = True

    @abstractmethod
    def train(self, fit: Fit) -> nn.Module:
        """The trained network, by `fit.minimise(fit.fresh(), loss)`."""


@dataclass(frozen=True)
class Explainer(Component, ABC):
    """A way of attributing a logit to pixels. `differentiable`: its maps have a useful gradient by the images.

    One that has to learn from data first has `prepare`, and its `attribute` takes what that gave as a last argument.
    """

    kind: ClassVar[str] = "explainer"
    differentiable: ClassVar[bool] = False
    mask_rule: ClassVar[Literal["percentile", "minmax", "none"]] = "percentile"

    @abstractmethod
    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Raw signed attribution of each target logit: (B, C, H, W), (B,) -> (B, C or 1, H, W).

        Keeps a graph iff grad mode is on when it is called.
        """

    def prepare(self, network: nn.Module, train_data: Data, fit: Fit) -> Prepared:
        """What is learned about a frozen network before it is explained, as tensors by name; stored by the harness.
        `fit.minimise` trains whatever module learns."""
        return {}

    @property
    def prepares(self) -> bool:
        """Whether it has to learn first."""
        return type(self).prepare is not Explainer.prepare

    @typing.final
    def attributions(
        self, network: nn.Module, images: Tensor, targets: Tensor, prepared: Prepared | None = None
    ) -> Tensor:
        """`attribute` as one call with noise of its own. Raises BadValue for images that are not finite."""
        if not images.isfinite().all():
            row = int(images.flatten(1).isfinite().all(1).logical_not().nonzero()[0])
            raise BadValue(
                f"image {row} of {len(images)} holds a value that is not finite: there is nothing to explain"
            )
        if self.prepares and not prepared:
            raise BadValue(f"explainer {self} learns from data first: hand it what its prepare gave")
        with noise.call():
            return self.attribute(network, images, targets, *([prepared] if self.prepares else []))

    @typing.final
    def maps(self, network: nn.Module, images: Tensor, targets: Tensor, prepared: Prepared | None = None) -> Tensor:
        """`reduce` of the attribution: (B, C, H, W), (B,) -> (B, H, W)."""
        return reduce(self.attributions(network, images, targets, prepared))

    @typing.final
    def masks(self, network: nn.Module, images: Tensor, targets: Tensor, prepared: Prepared | None = None) -> Tensor:
        """`mask` of the attribution under this explainer's rule: (B, C, H, W), (B,) -> (B, 1 or C, H, W)."""
        return mask(self.attributions(network, images, targets, prepared), self.mask_rule)


@dataclass(frozen=True)
class Attack(Component, ABC):
    """A way of changing images within a ball to change their maps. The harness projects what it returns, and the
    contracts ask that nothing is left to project: an attack has to know which images it is measured on.

    `beta`: the sharpness of the softplus that stands for ReLU where the attack follows a gradient of maps, which on
    ReLU networks vanishes; a parameter of those attacks. None where nothing is replaced.
    """

    kind: ClassVar[str] = "attack"
    beta = None  # without an annotation, which would put a parameter of this name before all others

    @abstractmethod
    def perturb(self, victim: Victim, images: Tensor, targets: Tensor, ball: Ball) -> Tensor:
        """Changed images: (B, C, H, W), (B,) -> (B, C, H, W)."""

    def objective(self, victim: Victim, images: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor] | None:
        """What a white-box attack minimises, (B, C, H, W) -> (B,), with all that is fixed taken from the clean images;
        None for an attack that follows no gradient. It is called inside `softened(self.beta)`, and does not soften
        itself."""
        return None


@dataclass(frozen=True)
class Metric(Component, ABC):
    """A score. `__call__` names the evidence it wants and returns (N,) with NaN where undefined (a map that is all
    zero explains nothing), `Levels`, a number, or `Undefined`."""

    kind: ClassVar[str] = "metric"
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    unit: ClassVar[str] = ""
    help: ClassVar[str] = ""

    @abstractmethod
    def __call__(self, **evidence: Any) -> Tensor | Levels | float | Undefined: ...


KINDS: dict[str, type[Component]] = {
    cls.kind: cls for cls in (Dataset, Model, Schedule, Defense, Explainer, Attack, Metric)
}
