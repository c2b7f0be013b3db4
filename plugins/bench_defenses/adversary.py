"""What defenses that train on perturbed images share."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench


def loss_gradient(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of each image's own cross-entropy by its pixels, a constant: (B, C, H, W), (B,) -> (B, C, H, W)."""
    leaf = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(network(leaf), labels, reduction="sum"), leaf)
    return gradient


def unit(values: Tensor) -> Tensor:
    """Each image's values at unit l2 length; zero ones stay zero."""
    return values / values.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)


def ascended(
    images: Tensor,
    moved: Tensor,
    ball: bench.Ball,
    steps: int,
    step: float,
    objective: Callable[[Tensor], Tensor],
    where: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Images after steepest steps up an objective (B, C, H, W) -> (B,), each of a length as a share of eps, projected
    to the ball; `where()` is one for the elements that move, and is asked when the objective is known."""
    for _ in range(steps):
        leaf = moved.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(leaf).sum(), leaf)
        direction = ball.steepest(gradient if where is None else gradient * where())
        moved = ball.project(moved.detach() + step * float(ball.eps) * direction, images)
    return moved.detach()
