"""What defenses share that train on perturbed images."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench.gradients import twice_differentiable


def loss_gradient(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Take each image's gradient of its cross-entropy, as a constant: (B, C, H, W), (B,) -> (B, C, H, W)."""
    leaf = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(network(leaf), labels, reduction="sum"), leaf)
    return gradient


def losses_and_slopes(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return each image's cross-entropy and its gradient by the image, both with a graph to the weights:
    (B, C, H, W), (B,) -> (B,), (B, C, H, W)."""
    leaf = images.detach().requires_grad_()
    with twice_differentiable():
        losses = F.cross_entropy(network(leaf), labels, reduction="none")
    (slopes,) = torch.autograd.grad(losses.sum(), leaf, create_graph=True)
    return losses, slopes


def unit(values: Tensor) -> Tensor:
    """Scale each image's values to unit l2 length; zeros stay zeros."""
    return values / values.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)


def ascend(
    images: Tensor,
    moved: Tensor,
    ball: bench.Ball,
    steps: int,
    step: float,
    objective: Callable[[Tensor], Tensor],
    where: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Take steepest steps up an objective (B, C, H, W) -> (B,), projected to the ball; `step` is a share of eps.

    `where()` returns one for the elements that may move. It is called after the objective.
    """
    for _ in range(steps):
        leaf = moved.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(leaf).sum(), leaf)
        direction = ball.steepest(gradient if where is None else gradient * where())
        moved = ball.project(moved.detach() + step * float(ball.eps) * direction, images)
    return moved.detach()
