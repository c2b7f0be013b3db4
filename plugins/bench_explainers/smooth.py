"""Average another explainer over noisy copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

import bench
from bench import noise
from bench.copies import gaussian
from bench.gradients import summed
from bench_explainers.input_x_gradient import InputXGradient


@dataclass(frozen=True)
class Smooth(bench.Explainer):
    """Average another explainer's signed attribution over noisy copies (Smilkov et al., 2017). This is what
    `smoothgrad` does for `gradient`, with the same Gaussian noise.

    A copy takes the image's place in all that the explainer does: `input_x_gradient` multiplies by it.
    """

    name = "smooth"
    paper = bench.papers.SMILKOV2017
    examples = ("samples=3", "explainer=(gradcam),samples=2", "explainer=(smoothgrad:samples=2),samples=2,noise=0.05")
    explainer: bench.Explainer = bench.param(InputXGradient(), "what explains each copy")
    samples: int = bench.param(50, "noisy copies of each image", low=1)
    noise: float = bench.param(0.1, "standard deviation, as a share of the image's range", low=0)

    @property
    def differentiable(self) -> bool:
        return self.explainer.differentiable

    @property
    def mask_rule(self) -> Literal["percentile", "minmax", "none"]:
        return self.explainer.mask_rule

    @property
    def prepares(self) -> bool:
        return self.explainer.prepares

    def refuse(self, case: bench.Case) -> str | None:
        return self.explainer.refuse(case)

    def prepare(self, network: nn.Module, train_data: bench.Data, fit: bench.Fit) -> dict[str, Tensor]:
        return self.explainer.prepare(network, train_data, fit)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor, *prepared: Any) -> Tensor:
        def term(images: Tensor, draws: range) -> Tensor:
            copies, classes = (each.repeat_interleave(len(draws), 0) for each in (images, targets))
            with noise.repeat(draws, len(images)):
                noisy = copies + gaussian(copies, self.noise)
                found = self.explainer.attribute(network, noisy, classes, *prepared)
            return found.view(len(images), len(draws), *found.shape[1:]).sum(1)

        return summed(network, images, self.samples, term) / self.samples
