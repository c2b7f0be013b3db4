"""What defenses share that rewrite the maps of a trained network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import bench
from bench.gradients import target_logits, twice_differentiable
from bench.maps import mask

HEO2019 = bench.Paper(
    "Fooling Neural Network Interpretations via Adversarial Model Manipulation",
    "Juyeon Heo and Sunghwan Joo and Taesup Moon",
    "NeurIPS",
    2019,
    "https://arxiv.org/abs/1902.02041",
)


def fine_tune(
    fit: bench.Fit, teacher: bench.Defense, loss: Callable[[nn.Module, nn.Module, bench.Batch], Tensor]
) -> nn.Module:
    """Train a copy of the network that a defense trains by `loss(copy, network, batch)`, for a whole schedule.

    Both are in eval mode, so batch norm keeps its statistics.
    """
    trained = fit.trained_by(teacher)
    network = fit.fresh()
    network.load_state_dict(trained.state_dict())

    def evaluated(network: nn.Module, batch: bench.Batch) -> Tensor:
        with fit.evaluating(network):
            return loss(network, trained, batch)

    return fit.minimise(network, evaluated)


def scaled_map(slopes: Tensor) -> Tensor:
    """Scale the absolute sums over channels of each image to [0, 1], by their range: (B, C, H, W) -> (B, H, W)."""
    return mask(slopes, "minmax")[:, 0]


def logits_and_slopes(network: nn.Module, images: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the logits and the gradient of each target's, by default of the predicted class's, with a graph to the
    weights: (B, C, H, W), (B,) -> (B, K), (B, C, H, W)."""
    leaf = images.detach().requires_grad_()
    with twice_differentiable():
        logits = network(leaf)
    scores = target_logits(logits, leaf, logits.argmax(1) if targets is None else targets)
    (slopes,) = torch.autograd.grad(scores.sum(), leaf, create_graph=True)
    return logits, slopes
