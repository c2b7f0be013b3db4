"""The loss that l2, cosd and l2_cosd share (Joo et al., 2023)."""

from __future__ import annotations

from fractions import Fraction

import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench import noise
from bench.gradients import input_gradient, logits_and_gradient


def alignment_loss(
    network: nn.Module, batch: bench.Batch, l2: float, cosine: float, eps: Fraction, power: int = 2
) -> Tensor:
    """Return CE(x) + l2 * |g(x + d) - g(x)|^power + cosine * (1 - cos(g(x + d), g(x))) / 2, averaged over the batch.

    g is the signed gradient of the true class's logit by the normalised image, over all channels. d is uniform on
    [-eps, eps] per pixel, one draw per image and step, not clipped to valid images. cos has torch's floor of 1e-8. g(x)
    is a constant, computed without a graph in the forward pass of the cross-entropy; the authors build its graph and
    drop it. The paper prints the norm (eq. 5, power 1), and its code squares it (power 2). x and x + d pass through the
    network in two calls, so batch norm normalises each by its own statistics, as in the authors' code.
    """
    logits, clean = logits_and_gradient(network, batch.images, batch.labels, graph=False)
    moved = batch.images + float(eps) * noise.uniform(batch.images)
    _, std = bench.normalisation(network)
    first, second = ((std * g).flatten(1) for g in (clean, input_gradient(network, moved, batch.labels)))
    loss = F.cross_entropy(logits, batch.labels)
    if l2:
        distance = (second - first).square().sum(1) if power == 2 else (second - first).norm(dim=1)
        loss = loss + l2 * distance.mean()
    if cosine:
        loss = loss + cosine * (1 - F.cosine_similarity(second, first, dim=1, eps=1e-8).mean()) / 2
    return loss
