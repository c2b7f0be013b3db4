"""Count how often a pixel is among the most important ones of noisy copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import bench
from bench import noise, papers
from bench.gradients import summed
from bench.maps import reduce, top_pixels
from bench_explainers.gradient import Gradient


@dataclass(frozen=True)
class Votes(bench.Explainer):
    """Take the share of noisy copies in which a pixel is among the most important (Anani et al., ICML 2025, whose
    certified map says on which side of a threshold this share is). The noise is Gaussian, and another explainer's map
    decides what is important.

    A vote is 0 or 1, so it is certified by smoothing, whatever the explainer: `certified_pixels` bounds which pixels an
    attack can move across one half, and `topk_overlap_bound` how many of the largest shares it can displace. The noise
    is in pixel units, the same for all images, since noise that follows the image's range moves with the attack. No
    gradient passes through, so attacks need a surrogate, such as `smooth`. It takes `samples` passes of the explainer.
    """

    name = "votes"
    differentiable = False
    mask_rule = "minmax"
    paper = papers.ANANI2025
    examples = ("samples=8", "explainer=(input_x_gradient),samples=4,noise=0.25,share=0.3")
    explainer: bench.Explainer = bench.param(Gradient(), "what explains each copy")
    samples: int = bench.param(100, "noisy copies of each image", low=1)
    noise: float = bench.param(0.15, "standard deviation, in pixel units", low=1e-6)
    share: float = bench.param(0.1, "share of the pixels that count as most important", low=0, high=1)

    @property
    def prepares(self) -> bool:
        return self.explainer.prepares

    def refuse(self, case: bench.Case) -> str | None:
        return self.explainer.refuse(case)

    def prepare(self, network: nn.Module, train_data: bench.Data, fit: bench.Fit) -> dict[str, Tensor]:
        return self.explainer.prepare(network, train_data, fit)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor, *prepared: Any) -> Tensor:
        count = max(1, int(self.share * images.shape[2:].numel()))

        def term(images: Tensor, draws: range) -> Tensor:
            copies, classes = (each.repeat_interleave(len(draws), 0) for each in (images, targets))
            with noise.repeat(draws, len(images)):
                noisy = copies + self.noise * noise.normal(copies)
                maps = reduce(self.explainer.attribute(network, noisy, classes, *prepared))
            return top_pixels(maps, count).to(images).view(len(images), len(draws), *maps.shape[1:]).sum(1)

        with torch.no_grad():
            return summed(network, images, self.samples, term)[:, None] / self.samples
