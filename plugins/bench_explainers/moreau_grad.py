"""Take the gradient of a smoothed and sparsified network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench import noise
from bench.copies import add_chunk, value_range
from bench.gradients import iterated, summed


@dataclass(frozen=True)
class MoreauGrad(bench.Explainer):
    """Take the gradient of a Moreau envelope of the target's logit (sparse MoreauGrad; Zhang and Farnia, ICCV 2023).
    The change d, in normalised space, minimises the mean of the target's logit over noisy copies of the image plus
    |d|^2 / (2 smoothing) + sparsity |d|_1. Proximal gradient steps from zero find it, and the attribution is -d /
    smoothing. Without smoothing, this is the gradient.

    The noise is relative to the range of each normalised image, and fresh at every step. d is the mean over the last
    steps, so zeros are not exact. With `block`, squares of that side over all channels become zero together (norms
    instead of magnitudes; the authors take a sparsity of 0.05 with blocks of 14). The gradient of an attack passes
    through all steps and is exact; the authors' attack treats d as a constant.
    """

    name = "moreau_grad"
    differentiable = True
    paper = bench.Paper(
        "MoreauGrad: Sparse and Robust Interpretation of Neural Networks via Moreau Envelope",
        "Jingwei Zhang and Farzan Farnia",
        "ICCV",
        2023,
        "https://arxiv.org/abs/2302.05294",
    )
    examples = ("steps=4,average=2,samples=2", "steps=3,average=3,samples=2,block=5,sparsity=0.01")
    steps: int = bench.param(300, "proximal gradient steps", low=1)
    average: int = bench.param(100, "last steps to take the mean of", low=1)
    samples: int = bench.param(32, "noisy copies of each image at a step", low=1)
    noise: float = bench.param(0.1, "standard deviation, as a share of the normalised image's range", low=0)
    rate: float = bench.param(0.1, "length of a step", low=0)
    smoothing: float = bench.param(1.0, "smoothing of the Moreau envelope: the larger, the further d may go", low=1e-6)
    sparsity: float = bench.param(0.005, "weight of the l1 norm", low=0)
    block: int = bench.param(0, "side of the squares that become zero together; 0 for single elements", low=0)

    def find_problem(self) -> str | None:
        if self.average > self.steps:
            return f"average is {self.average}, but there are {self.steps} steps; give at most as many"
        return None

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        mean, std = bench.normalisation(network)

        def step(images: Tensor, change: Tensor, number: int) -> Tensor:
            def term(joined: Tensor, draws: range) -> Tensor:
                images, change = joined.chunk(2, 1)
                width = (self.noise * value_range((images - mean) / std)).repeat_interleave(len(draws), 0)
                later = range(draws.start + number * self.samples, draws.stop + number * self.samples)
                return add_chunk(
                    network, images + std * change, targets, later, lambda copies: std * width * noise.normal(copies)
                )

            # Joined, because the noise depends on the images and not on the change.
            slope = std * summed(network, torch.cat([images, change], 1), self.samples, term) / self.samples
            moved = change - self.rate * (slope + change / self.smoothing)
            return shrink(moved, self.rate * self.sparsity, self.block)

        return -iterated(network, images, self.steps, self.average, step) / self.smoothing


def shrink(values: Tensor, by: float, block: int) -> Tensor:
    """Lower the magnitudes of values by a number, to zero at the least: (B, C, H, W) -> (B, C, H, W).

    With `block`, lower the norms of squares of that side over all channels instead.
    """
    if not block:
        return F.softshrink(values, by)
    squares = F.avg_pool2d(values.square().sum(1, keepdim=True), block, ceil_mode=True, divisor_override=1)
    norms = squares.clamp(min=1e-24).sqrt()
    kept = (1 - by / norms).clamp(min=0).repeat_interleave(block, 2).repeat_interleave(block, 3)
    return values * kept[:, :, : values.shape[2], : values.shape[3]]
