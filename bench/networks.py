"""Networks as the suite sees them: they take images in [0, 1], normalise inside, and give logits (B, K)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.errors import BadComponent


class Normalised(nn.Module):
    """A network for images in [0, 1], made from one for (image - mean) / std; mean and std are per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


def normalisation(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and std by which a network normalises images in [0, 1], (C, 1, 1) each; 0 and 1 for a stranger's network.

    A gradient in normalised space is std times the gradient in pixel space.
    """
    if isinstance(network, Normalised):
        return network.mean, network.std
    like = next(network.parameters(), torch.zeros(()))
    return like.new_zeros(1, 1, 1), like.new_ones(1, 1, 1)


def check_logits(logits: Tensor, images: Tensor) -> Tensor:
    """Return the logits that a network gave for images. Raises BadComponent unless they are (B, K)."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        form = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise BadComponent(f"the network gives {form} for {len(images)} images; logits are ({len(images)}, classes)")
    return logits


def check_eager(network: nn.Module) -> None:
    """Raise BadComponent where a network, or a part of it, is scripted or compiled.

    Code that replaces activations or watches layers does not reach inside such a network.
    """
    for name, module in network.named_modules():
        scripted = isinstance(module, torch.jit.ScriptModule)
        if scripted or type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None:
            raise BadComponent(
                f"{f'layer {name}' if name else 'the network'} is {'scripted' if scripted else 'compiled'}, and its "
                "activations cannot be replaced; pass the network as it was before"
            )
