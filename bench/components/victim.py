"""What an attack sees of the case that it attacks."""

from __future__ import annotations

import typing
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.errors import BadComponent
from bench.guard import guarded
from bench.maps import reduce
from bench.networks import Pair, check_eager, check_images, check_logits, in_float32, to_float32

if typing.TYPE_CHECKING:
    from bench.components.kinds import Defense, Explainer

Prepared = dict[str, Tensor]  # what an explainer has learned about a network, by name


def _forget(name: str, values: Tensor) -> None:
    """Keep no report."""


@dataclass(frozen=True)
class Victim:
    """A frozen network in eval mode, and the explainer that the attack is to mislead.

    The harness always sets the rest as well. `references`: some training images (R, C, H, W), the same for every
    attack, whose maps may serve as targets. `trained_by(defense)`: the network that another defense trains in the same
    case. `prepared`: what the explainer has learned about the network. `normalisation`: the network's mean and std per
    channel, where `bench.normalisation` cannot see them. `sources`: the networks of `Attack.sources`. `report(name,
    values)`: keeps a number for each image, (B,), beside the attacked images. Raises BadComponent for a network that is
    scripted or compiled, or has one class, BadValue for references outside [0, 1].
    """

    network: nn.Module
    explainer: Explainer
    references: Tensor | None = None
    trained_by: Callable[[Defense], nn.Module] | None = None
    prepared: Prepared | None = None
    normalisation: Pair | None = None
    sources: tuple[nn.Module, ...] = ()
    report: Callable[[str, Tensor], None] = _forget

    def __post_init__(self) -> None:
        check_eager(self.network)
        if self.references is not None:
            check_images(self.references)

    def logits(self, images: Tensor) -> Tensor:
        network = in_float32(self.network)
        with guarded(network):
            return self._check(network(to_float32(images)), images)

    def maps(self, images: Tensor, targets: Tensor) -> Tensor:
        return self.explainer.maps(self.network, images, targets, self.prepared, self.normalisation)

    def both(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Maps and logits of the same images, (B, H, W) and (B, K), from one forward pass where that is possible."""
        attributions, logits = self.attributions_and_logits(images, targets)
        return reduce(attributions), logits

    def seen(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The name of `attributions_and_logits` in version 0.1."""
        warnings.warn("Victim.seen is now called attributions_and_logits", DeprecationWarning, stacklevel=2)
        return self.attributions_and_logits(images, targets)

    def attributions_and_logits(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Attributions and logits of the same images, (B, C or 1, H, W) and (B, K).

        They take one forward pass where the explainer runs the network on the images themselves, else one more.
        """
        outputs: list[Tensor] = []
        is_same = False

        def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            nonlocal is_same
            is_same = bool(inputs) and inputs[0].data_ptr() == images.data_ptr()
            is_same = is_same and (inputs[0].shape, inputs[0].stride()) == (images.shape, images.stride())

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if is_same:
                outputs.append(output)

        handles = (
            self.network.register_forward_pre_hook(look, prepend=True),  # before the network gets a copy
            self.network.register_forward_hook(keep),
        )
        try:
            attributions = self.explainer.attributions(self.network, images, targets, self.prepared, self.normalisation)
        finally:
            for handle in handles:
                handle.remove()
        logits = self._check(outputs[0], images) if outputs else self.logits(images)
        return attributions, logits if torch.is_grad_enabled() else logits.detach()

    def _check(self, logits: Tensor, images: Tensor) -> Tensor:
        if check_logits(logits, images).shape[1] < 2:
            raise BadComponent("the network has one class, so an attack cannot change its prediction; use another")
        return logits
