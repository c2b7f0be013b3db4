"""What defenses share that rewrite the maps of a trained network."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

import bench
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


def refuse_teacher(teacher: bench.Defense, case: bench.Case) -> str | None:
    """Why no copy of the network that a defense trains can be trained on in a case, or None."""
    if type(teacher).build is not bench.Defense.build:
        return f"the network of {teacher} is not the model's; give a teacher that trains the model itself"
    return teacher.refuse(case)


def scaled_map(slopes: Tensor) -> Tensor:
    """Scale the absolute sums over channels of each image to [0, 1], by their range: (B, C, H, W) -> (B, H, W)."""
    return mask(slopes, "minmax")[:, 0]
