"""Integrate the gradient along lines from training images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

import bench
from bench import noise
from bench.gradients import input_gradient, summed


@dataclass(frozen=True)
class ExpectedGradients(bench.Explainer):
    """Average integrated gradients over baselines drawn from training images (Erion et al., Nature Machine Intelligence
    2021, eq. 2). The attribution is the mean of (x - x') times the gradient of the target's logit at x' + a (x - x'),
    over draws of a training image x' and of a, uniform on [0, 1].

    The training images are a fixed choice with equally many of each class.
    """

    name = "expected_gradients"
    differentiable = True
    paper = bench.Paper(
        "Improving performance of deep learning models with axiomatic attribution priors and expected gradients",
        "Gabriel Erion and Joseph D. Janizek and Pascal Sturmfels and Scott M. Lundberg and Su-In Lee",
        "Nature Machine Intelligence",
        2021,
        "https://arxiv.org/abs/1906.10670",
    )
    examples = ("samples=3,references=5", "samples=6,references=2")
    samples: int = bench.param(50, "draws for each image", low=1)
    references: int = bench.param(100, "training images that lines start from; all of a smaller set", low=1)

    def prepare(self, network: nn.Module, train_data: bench.Data, fit: bench.Fit) -> dict[str, Tensor]:
        rows = train_data.choice(min(self.references, len(train_data)))
        return {"references": train_data.at(rows).images}

    def attribute(
        self, network: nn.Module, images: Tensor, targets: Tensor, prepared: dict[str, Tensor] | None = None
    ) -> Tensor:
        assert prepared, "pass what prepare returned"
        starts = prepared["references"]

        def term(images: Tensor, draws: range) -> Tensor:
            copies = images.repeat_interleave(len(draws), 0)
            with noise.repeat(draws, len(images)):
                place, share = noise.uniform(images.new_empty(len(copies), 2), 0, 1).unbind(1)
            start = starts[(place * len(starts)).long()].to(copies)
            way = copies - start
            classes = targets.repeat_interleave(len(draws), 0)
            slopes = input_gradient(network, start + share.view(-1, 1, 1, 1) * way, classes)
            return (way * slopes).view(len(images), len(draws), *images.shape[1:]).sum(1)

        if not len(starts):
            raise bench.BadComponent(
                "expected_gradients needs training images to start from, and the data set has none"
            )
        return summed(network, images, self.samples, term) / self.samples
