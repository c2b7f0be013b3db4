"""Find a mask that keeps the class, and without which the class is gone."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

import bench
from bench import noise
from bench.copies import value_range
from bench.gradients import CHUNK, iterated, summed, target_logits, twice_differentiable


@dataclass(frozen=True)
class RelEx(bench.Explainer):
    """Find a mask that keeps the prediction under noise, and whose complement loses it (Lim et al., CVPR 2021, eq. 11).
    The mask m in [0, 1]^(C, H, W) minimises mean_i[-log p(m x_i) - w log(1 - p((1 - m) x_i) + 1e-7)] + l |m|_1, for the
    probability p of the target and noisy copies x_i of the normalised image. Masked pixels show the mean colour.

    Descends with momentum along each image's gradient divided by its length (a zero gradient stays zero; the authors'
    code has NaN there), and clips m. The default is the setting of the released code, which draws copies anew at every
    step. "lim2021" is that of the paper (S2.1), with one batch of copies for all steps, and steps of 0.001 that leave
    the mask near its start. The noise is a share of each image's range. Costs two passes for each copy and step.

    It has no gradient, so only transfer and black-box attacks reach it. With unrolled=true, the maps are the same, and
    attacks follow the exact gradient through all steps.
    """

    name = "relex"
    mask_rule = "none"
    paper = bench.papers.LIM2021
    presets: ClassVar[dict[str, str]] = {"lim2021": "rate=0.001,momentum=0,samples=100,fresh=false"}
    examples = (
        *("steps=3,samples=2", "steps=3,samples=1,momentum=0,background=0", "steps=3,samples=2,fresh=false"),
        "steps=3,samples=2,unrolled=true",
    )
    steps: int = bench.param(50, "steps of the descent", low=1)
    samples: int = bench.param(50, "noisy copies of each image at a step", low=1)
    noise: float = bench.param(0.1, "standard deviation, as a share of the normalised image's range", low=0)
    rate: float = bench.param(0.1, "length of a step", low=0)
    momentum: float = bench.param(0.99, "momentum of the descent", low=0, high=0.9999)
    sparsity: float = bench.param(0.0001, "weight of the mask's l1 norm", low=0)
    background: float = bench.param(1.0, "weight of the term for what the mask removes", low=0)
    fresh: bool = bench.param(True, "whether copies are drawn anew at every step", added=True)

    unrolled: bool = bench.param(False, "whether attacks follow a gradient through the steps", added=True)

    @property
    def differentiable(self) -> bool:
        return self.unrolled

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        mask = noise.uniform(images, 0, 0.01)
        speed = torch.zeros_like(images)

        def step(images: Tensor, state: Tensor, number: int) -> Tensor:
            mask, speed = state.chunk(2, 1)
            slope = self.slope(network, images, targets, mask, number)
            length = slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            speed = self.momentum * speed + slope / torch.where(length > 0, length, 1)
            return torch.cat([(mask - self.rate * speed).clamp(0, 1), speed], 1)

        state = torch.cat([mask, speed], 1)
        with contextlib.nullcontext() if self.unrolled else torch.no_grad():
            state = iterated(network, images, self.steps, 1, step, state)
        return state.chunk(2, 1)[0]

    def slope(self, network: nn.Module, images: Tensor, targets: Tensor, mask: Tensor, number: int) -> Tensor:
        """Take the gradient of each image's objective by its mask, over the noisy copies of a step. It has a graph iff
        grad mode is on."""
        total = self.sparsity * mask.sign()
        if torch.is_grad_enabled():

            def term(joined: Tensor, draws: range) -> Tensor:
                images, mask = joined.chunk(2, 1)
                return self.part(network, images, mask, targets, draws, number)

            return total + summed(network, torch.cat([images, mask], 1), self.samples, term)
        size = max(1, CHUNK.get(images.device.type, CHUNK["cpu"]) // images.numel())
        for start in range(0, self.samples, size):
            draws = range(start, min(start + size, self.samples))
            total = total + self.part(network, images, mask, targets, draws, number)
        return total

    def part(
        self, network: nn.Module, images: Tensor, mask: Tensor, targets: Tensor, draws: range, number: int
    ) -> Tensor:
        """Take what some of the copies add to the gradient, l1 norm aside."""
        graph = torch.is_grad_enabled()
        mean, std = bench.normalisation(network)
        width = self.noise * value_range((images - mean) / std)
        copies = (images - mean).repeat_interleave(len(draws), 0)
        with noise.call(number if self.fresh else 0), noise.repeat(draws, len(images)):
            copies = copies + std * width.repeat_interleave(len(draws), 0) * noise.normal(copies)
        classes = targets.repeat_interleave(len(draws), 0)
        with torch.enable_grad(), twice_differentiable() if graph else contextlib.nullcontext():
            leaf = mask if graph and mask.requires_grad else mask.detach().requires_grad_()
            shown = leaf.repeat_interleave(len(draws), 0)
            loss = -_log_probability(network, mean + shown * copies, classes)
            if self.background:
                rest = _log_probability(network, mean + (1 - shown) * copies, classes).exp()
                loss = loss - self.background * (1 - rest + 1e-7).log()
            (part,) = torch.autograd.grad(loss.sum() / self.samples, leaf, create_graph=graph)
        return part


def _log_probability(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return target_logits(bench.check_logits(network(images), images).log_softmax(1), images, targets)
