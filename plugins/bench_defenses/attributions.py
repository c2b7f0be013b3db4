"""What defenses share that compare the integrated gradients of an image and of a perturbed copy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.gradients import target_logits, twice_differentiable


def integrated_gradients(network: nn.Module, images: Tensor, labels: Tensor, points: int) -> Tensor:
    """Integrate the gradient of each label's logit from black, at the right ends of equal parts, with a graph to the
    weights, and to the images where these have one: (B, C, H, W), (B,) -> (B, C, H, W)."""
    share = torch.arange(1, points + 1, dtype=images.dtype, device=images.device) / points
    copies = (share.view(-1, 1, 1, 1) * images[:, None]).flatten(0, 1)
    copies = copies if copies.requires_grad else copies.requires_grad_()
    with twice_differentiable():
        logits = network(copies)
    scores = target_logits(logits, copies, labels.repeat_interleave(points))
    (slopes,) = torch.autograd.grad(scores.sum(), copies, create_graph=True)
    return images * slopes.view(len(images), points, *images.shape[1:]).mean(1)


def cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return 1 - cosine of each pair, over all elements: (B, C, H, W), (B, C, H, W) -> (B,)."""
    return 1 - F.cosine_similarity(first.flatten(1), second.flatten(1), dim=1)


def pearson_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return 1 - Pearson's correlation of each pair, over all elements: (B, C, H, W), (B, C, H, W) -> (B,)."""
    return cosine_distance(*(each - each.mean((1, 2, 3), keepdim=True) for each in (first, second)))
