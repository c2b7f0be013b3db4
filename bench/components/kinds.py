"""The seven kinds of component, and every convention of shape, range and unit.

Images are floats in [0, 1], (B, C, H, W); labels and targets are int64, (B,). A network maps such images to logits
(B, K) and normalises inside itself. Budgets are in pixel units of [0, 1]. An attribution is raw and signed, (B, C or 1,
H, W). A map is its absolute sum over channels divided by its total, (B, H, W); where the attribution is zero the map
stays zero and counts as undefined. The explained class, the target, is fixed on the clean image.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import typing
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bench import noise
from bench.components.ball import Ball
from bench.components.base import Component, param
from bench.components.data import Data
from bench.components.dataset import Dataset
from bench.components.doors import attack_door, explainer_door, metric_door
from bench.components.victim import Prepared, Victim
from bench.errors import BadComponent, BadValue
from bench.maps import mask, reduce
from bench.networks import Normalised, Pair, attack_under_way, check_images

if typing.TYPE_CHECKING:
    from bench.engine import Fit
    from bench.images import Frame
    from bench.zoo import Network


Direction = Literal["higher", "lower"]
EFFORTS = ("steps", "queries", "candidates")  # parameters that say how hard an attack tries
SLACK = 0.1  # by which an image that is explained may leave [0, 1]: noise and differences take it there


def _hang_door(cls: type[Component], name: str, door: Callable[..., Any]) -> None:
    """Put a door before a method that a class defines."""
    if name in vars(cls):
        setattr(cls, name, door(vars(cls)[name]))


@dataclass(frozen=True)
class Levels:
    """A score per image and named level: values (N, L). An image's value is the mean over its levels."""

    values: Tensor
    names: tuple[str, ...]


@dataclass(frozen=True)
class Undefined:
    """The metric has no value here; the reason is printed."""

    reason: str


@dataclass(frozen=True)
class Model(Component, ABC):
    """An architecture."""

    kind: ClassVar[str] = "model"

    @property
    def smooth(self) -> bool:
        """Whether logits have a second derivative that is not zero (max-pooling aside)."""
        return False

    @property
    def frame(self) -> Frame | None:
        """How the trained weights that the model is named after expect images to be framed, or None."""
        return None

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the model's own trained weights tell apart; none where training starts from fresh ones."""
        return ()

    @abstractmethod
    def build(self, shape: tuple[int, int, int], classes: int) -> Normalised:
        """Build a fresh network for images of a shape (C, H, W)."""

    def load_weights(self, network: Normalised, shape: tuple[int, int, int]) -> None:
        """Load the model's own trained weights into a network that `build` made for images of this shape.

        A last layer for another number of classes stays fresh. Models without `classes` have none to load.
        """


@dataclass(frozen=True)
class Schedule(Component, ABC):
    """How long and how a network is trained. The kind declares the parameters; a schedule assigns their defaults."""

    kind: ClassVar[str] = "schedule"
    epochs: int = param(help="passes over the training images", low=0)
    batch: int = param(help="images in a step", low=1)
    optimiser: Literal["adam", "adamw", "sgd", "nesterov"] = param(help="of torch.optim; nesterov is sgd's variant")
    rate: float = param(help="learning rate", low=0)
    weight_decay: float = param(help="as the optimiser defines it", low=0)
    decay: tuple[int, ...] = param(help="epochs after which the rate is divided by 10", low=1)
    augmentation: Literal["none", "crop_flip", "rotate_flip_blur", "resized_crop_flip"] = param(
        help="crop_flip: zero padding of 4, random crop and flip; rotate_flip_blur: by up to 30 degrees, flip, blur; "
        "resized_crop_flip: 8 to 100% of the area, enlarged to the image's size, and flip"
    )
    clipping: float = param(help="largest l2 norm of the gradient over all weights; 0 for no clipping", low=0)
    limit: int = param(help="training images used, as many of each class; 0 for all", low=0)
    momentum: float = param(0.9, "of sgd and nesterov, and of the first moment of adam and adamw", low=0, high=0.9999)
    precision: Literal["float32", "tf32", "bfloat16"] = param(
        "float32", "of products while training: tf32 on a GPU, bfloat16 by autocast; second derivatives want float32"
    )
    curve: Literal["steps", "half_cosine"] = param(
        "steps", "how the rate falls: at the epochs of decay, or along half a period of the cosine as well", added=True
    )
    warmup: int = param(0, "epochs in which the rate rises in equal steps", low=0, added=True)
    init: Path | None = param(
        None, "file of weights to start from; its last layer is left out where its classes are not as many", added=True
    )

    def find_problem(self) -> str | None:
        if self.init and self.init.is_dir():
            return f"init is {self.init}, a folder; name a file in it"
        if self.warmup and self.warmup >= self.epochs:
            return f"warmup is {self.warmup}, must be less than epochs, {self.epochs}"
        return None

    def rate_at(self, epoch: int, replays: int = 1) -> float:
        """The learning rate in an epoch, counted from 0, where each batch is taken `replays` times in a row."""
        epochs, warmup, *decay = (math.ceil(each / replays) for each in (self.epochs, self.warmup, *self.decay))
        if epoch < warmup:
            return self.rate * (epoch + 1) / (warmup + 1)
        rate = self.rate * 0.1 ** sum(epoch >= point for point in decay)
        if self.curve == "half_cosine":
            rate *= (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup))) / 2
        return rate

    def used(self, data: Data) -> Tensor:
        """The positions of the training images that the schedule uses, in order."""
        return data.choice(self.limit) if self.limit else torch.arange(len(data))


@dataclass(frozen=True)
class Defense(Component, ABC):
    """A way of training. `trains`: whether its weights come from the data, so that it can train again on other data."""

    kind: ClassVar[str] = "defense"
    trains: ClassVar[bool] = True

    @property
    def pretrained(self) -> Network | None:
        """The network of the zoo that the defense loads. Where a case trains that very network, as its entry says,
        the harness computes that case instead. None for all that train, or load other weights."""
        return None

    def build(self, model: Model, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Build a fresh network of the form that `train` returns: the model's, unless the defense has another."""
        return model.build(shape, classes)

    @abstractmethod
    def train(self, fit: Fit) -> nn.Module:
        """Return the trained network, usually `fit.minimise(fit.fresh(), loss)`."""


MaskRule = Literal["percentile", "minmax", "none"]


@dataclass(frozen=True)
class Explainer(Component, ABC):
    """A way of attributing a logit to pixels.

    An explainer that learns from data first overrides `prepare`; its `attribute` then takes the result as its last
    argument.
    """

    kind: ClassVar[str] = "explainer"

    @property
    def differentiable(self) -> bool:
        """Whether its maps have a useful gradient by the images. Those that have one set a class attribute to True."""
        return False

    @property
    def needs(self) -> Literal["", "class_token", "bcos_layers"]:
        """What networks it refuses lack: a class token that attends to all patches, or layers of `bench.bcos`. Its
        contracts run on a tiny network that has it. Those that need something set a class attribute."""
        return ""

    @property
    def selective(self) -> bool:
        """Whether it refuses some networks. It is then tried on an untrained network and one image before anything is
        trained. An explainer that refuses some, and takes few passes, sets a class attribute."""
        return bool(self.needs)

    @property
    def mask_rule(self) -> MaskRule:
        """How `masks` scales an attribution; `bench.maps.mask` says it of each rule. Most set a class attribute."""
        return "percentile"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _hang_door(cls, "attribute", explainer_door)

    @abstractmethod
    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Raw signed attribution of each target logit: (B, C, H, W), (B,) -> (B, C or 1, H, W).

        Keeps a graph iff grad mode is on when it is called. An explainer that needs gradients enables grad mode itself,
        as `bench.gradients.differentiating` does; `bench.gradients.target_logits` picks the logits.
        """

    def prepare(self, network: nn.Module, train_data: Data, fit: Fit) -> Prepared:
        """Learn about a frozen network before explaining it: tensors by name, which the harness stores.

        `fit.minimise` trains any module that learns.
        """
        return {}

    @property
    def prepares(self) -> bool:
        """Whether the explainer learns from data first."""
        return type(self).prepare is not Explainer.prepare

    @typing.final
    def attributions(
        self,
        network: nn.Module,
        images: Tensor,
        targets: Tensor,
        prepared: Prepared | None = None,
        normalisation: Pair | None = None,
    ) -> Tensor:
        """`attribute` as one call with its own noise. Raises BadValue for images not finite, or outside [0, 1].

        `normalisation`: the network's mean and std per channel, where `bench.normalisation` cannot see them.
        """
        # Not where a gradient is followed to the images, as in every step of an attack: the look waits for the GPU.
        follows = images.requires_grad and torch.is_grad_enabled()
        if not follows and not images.isfinite().all():
            row = int(images.flatten(1).isfinite().all(1).logical_not().nonzero()[0])
            attack = attack_under_way()
            if attack:
                raise BadComponent(
                    f"attack {attack} moved image {row} of {len(images)} to NaN or infinity, after a gradient of "
                    f"explainer {self}; use another explainer or surrogate"
                )
            raise BadValue(f"image {row} of {len(images)} contains NaN or infinity and cannot be explained")
        if not follows:
            check_images(images, SLACK)
        if self.prepares and not prepared:
            raise BadValue(f"explainer {self} learns from data first; pass what its prepare returned")
        with noise.call():
            given = [prepared] if self.prepares else []
            return self.attribute(network, images, targets, *given, normalisation=normalisation)  # type: ignore[call-arg]

    @typing.final
    def maps(
        self,
        network: nn.Module,
        images: Tensor,
        targets: Tensor,
        prepared: Prepared | None = None,
        normalisation: Pair | None = None,
    ) -> Tensor:
        """`reduce` of the attribution: (B, C, H, W), (B,) -> (B, H, W)."""
        return reduce(self.attributions(network, images, targets, prepared, normalisation))

    @typing.final
    def masks(
        self,
        network: nn.Module,
        images: Tensor,
        targets: Tensor,
        prepared: Prepared | None = None,
        normalisation: Pair | None = None,
    ) -> Tensor:
        """`mask` of the attribution under this explainer's rule: (B, C, H, W), (B,) -> (B, 1 or C, H, W)."""
        return mask(self.attributions(network, images, targets, prepared, normalisation), self.mask_rule)


def defenses_in(component: Component) -> Iterator[Defense]:
    """The defenses among a component's parameters, nested ones included."""
    for field in dataclasses.fields(component):
        part = getattr(component, field.name)
        if isinstance(part, Defense):
            yield part
        if isinstance(part, Component):
            yield from defenses_in(part)


@dataclass(frozen=True)
class Attack(Component, ABC):
    """A way of changing images within a ball so that their maps change.

    The harness projects whatever an attack returns. The contracts still ask for images inside the ball, because an
    attack must know which images it is measured on. `moves` is False for a control that returns the images as they are,
    `moves_maps` for an attack that changes the prediction and keeps the map: checks of what is left of maps are no use.
    `beta` is the sharpness of the softplus that replaces ReLU where the attack follows a gradient of maps, which
    vanishes on ReLU networks; attacks that follow one declare it as a parameter. None replaces nothing.
    """

    kind: ClassVar[str] = "attack"
    moves: ClassVar[bool] = True
    moves_maps: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _hang_door(cls, "perturb", attack_door)

    @property
    def beta(self) -> float | None:
        return None

    @property
    def spaces(self) -> tuple[Literal["images", "parameters"], ...]:
        """What the attack can return: "images", in the ball of a norm, "parameters", in that of a transformation, or
        either. Most that return parameters set a class attribute, `spaces = ("parameters",)`."""
        return ("images",)

    def sources(self, defense: Defense) -> tuple[Defense, ...]:
        """The defenses whose networks the attack uses in a case of a defense; `Victim.sources` has the networks."""
        return tuple(defenses_in(self))

    @property
    def doubled(self) -> Attack | None:
        """The same attack with twice the steps, queries or candidates; None where it has none, or may have no more."""
        own = {parameter.name for parameter in dataclasses.fields(self)}
        for name in EFFORTS:
            if name in own:
                with contextlib.suppress(BadValue):
                    return dataclasses.replace(self, **{name: 2 * getattr(self, name)})
        return None

    @abstractmethod
    def perturb(self, victim: Victim, images: Tensor, targets: Tensor, ball: Ball) -> Tensor:
        """Changed images: (B, C, H, W), (B,) -> (B, C, H, W). In a ball of a transformation, its parameters, (B, P).

        Raises BadValue for images outside [0, 1].
        """

    def make_objective(self, victim: Victim, images: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor] | None:
        """What a white-box attack minimises, (B, C, H, W) -> (B,), with everything fixed taken from the clean images.

        None for an attack that follows no gradient. The function is called inside `softened(self.beta)` and does not
        soften itself.
        """
        earlier = getattr(self, "objective", None)  # the name of this method in version 0.1
        if not callable(earlier):
            return None
        warnings.warn("Attack.objective is now called make_objective", DeprecationWarning, stacklevel=2)
        found: Callable[[Tensor], Tensor] | None = earlier(victim, images, targets)
        return found

    def make_point_objective(
        self, victim: Victim, images: Tensor, targets: Tensor, ball: Ball
    ) -> Callable[[Tensor], Tensor] | None:
        """`make_objective` as a function of the points of a ball. An attack that follows a gradient by the parameters
        of a transformation defines it, (B, P) -> (B,), and with it `make_point_loss`."""
        return self.make_objective(victim, images, targets) if ball.space == "images" else None

    def make_point_loss(
        self, victim: Victim, images: Tensor, targets: Tensor, ball: Ball
    ) -> Callable[[Tensor], Tensor] | None:
        """`make_loss` as a function of the points of a ball."""
        return self.make_loss(victim, images, targets) if ball.space == "images" else None

    def make_loss(self, victim: Victim, images: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor] | None:
        """What the attack chooses an image by, of those that it has met: its objective, unless it says otherwise."""
        return self.make_objective(victim, images, targets)


@dataclass(frozen=True)
class Metric(Component, ABC):
    """A score. The parameters of `__call__` name the evidence that it needs.

    It returns (N,) with NaN where undefined (an all-zero map explains nothing), `Levels`, a number, or `Undefined`.
    """

    kind: ClassVar[str] = "metric"
    unit: ClassVar[str] = ""
    help: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _hang_door(cls, "__call__", metric_door)

    @property
    def better(self) -> Direction:
        """Whether higher or lower values are better. Most set a class attribute, `better = "lower"`."""
        return "higher"

    @property
    def range(self) -> tuple[float | None, float | None]:
        """The least and the largest value that an image can score, None where there is no bound: intervals stay within.
        Most metrics set it as a class attribute, `range = (0.0, 1.0)`."""
        return None, None

    @property
    def grain(self) -> float | None:
        """The number that each image's score is a multiple of, at every level; None where there is none. Where it does
        not depend on parameters, it is a class attribute: a share of images has `grain = 1.0`."""
        return None

    @abstractmethod
    def __call__(self, *args: Any, **evidence: Any) -> Tensor | Levels | float | Undefined: ...


KINDS: dict[str, type[Component]] = {
    cls.kind: cls for cls in (Dataset, Model, Schedule, Defense, Explainer, Attack, Metric)
}
