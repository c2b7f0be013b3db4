"""What explainers that average over copies of an image share."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from bench import noise
from bench.gradients import input_gradient


def over_copies(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    draws: range,
    change: Callable[[Tensor], Tensor],
    each: Callable[[Tensor], Tensor] = lambda gradients: gradients,
) -> Tensor:
    """Sum over some draws of the gradient at changed copies of each image: (B, C, H, W), (B,) -> (B, C, H, W).

    `change(copies)` is added to the copies, (B * len(draws), C, H, W), those of one image next to each other; what it
    draws belongs to the draw's number, so that it is the same in any chunk. `each` is applied to every copy's gradient
    before the sum, and may give it other channels.
    """
    copies = images.repeat_interleave(len(draws), 0)
    with noise.repeat(draws, len(images)):
        moved = copies + change(copies)
    found = each(input_gradient(network, moved, targets.repeat_interleave(len(draws), 0)))
    return found.view(len(images), len(draws), *found.shape[1:]).sum(1)


def spread(images: Tensor) -> Tensor:
    """The range of each image's numbers: (B, C, H, W) -> (B, 1, 1, 1)."""
    flat = images.flatten(1)
    return (flat.amax(1) - flat.amin(1)).view(-1, 1, 1, 1)


def gaussian(copies: Tensor, width: float) -> Tensor:
    """Normal noise whose standard deviation is a share of each image's range."""
    return width * spread(copies) * noise.normal(copies)
