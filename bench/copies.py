"""Gradients at copies of an image, added up: what SmoothGrad and its kin share."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from bench import noise
from bench.gradients import input_gradient, summed

Change = Callable[[Tensor], Tensor]


def _keep(gradients: Tensor) -> Tensor:
    return gradients


def add_gradients(
    network: nn.Module, images: Tensor, targets: Tensor, samples: int, change: Change, each: Change = _keep
) -> Tensor:
    """Add up the gradients at `samples` changed copies of each image: (B, C, H, W), (B,) -> (B, C, H, W).

    Memory holds one chunk of the copies, also when the result is differentiated. See `add_chunk` for the functions.
    """

    def term(images: Tensor, draws: range) -> Tensor:
        return add_chunk(network, images, targets, draws, change, each)

    return summed(network, images, samples, term)


def add_chunk(
    network: nn.Module, images: Tensor, targets: Tensor, draws: range, change: Change, each: Change = _keep
) -> Tensor:
    """Add up the gradients at the copies with these numbers.

    `change(copies)` is added to the copies, (B * len(draws), C, H, W), where those of one image are neighbours. Its
    noise belongs to a copy's number, so it is the same in any chunk. `each` is applied to the gradient of every copy
    before they are added up, and may change the number of channels.
    """
    copies = images.repeat_interleave(len(draws), 0)
    with noise.repeat(draws, len(images)):
        changed = copies + change(copies)
    gradients = each(input_gradient(network, changed, targets.repeat_interleave(len(draws), 0)))
    return gradients.view(len(images), len(draws), *gradients.shape[1:]).sum(1)


def value_range(images: Tensor) -> Tensor:
    """The largest less the smallest value of each image: (B, C, H, W) -> (B, 1, 1, 1)."""
    flat = images.flatten(1)
    return (flat.amax(1) - flat.amin(1)).view(-1, 1, 1, 1)


def gaussian(images: Tensor, share: float) -> Tensor:
    """Draw normal noise whose standard deviation is a share of each image's range of values."""
    return share * value_range(images) * noise.normal(images)
