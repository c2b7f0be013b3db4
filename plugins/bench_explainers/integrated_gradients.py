"""Integrate the gradient along a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import bench
from bench.copies import add_chunk
from bench.gradients import summed


@dataclass(frozen=True)
class IntegratedGradients(bench.Explainer):
    """Integrate the gradient of the target's logit from a baseline to the image (Sundararajan et al., ICML 2017, eq.
    3). The difference between the two is multiplied by the mean gradient on the line between them, at 1/m, 2/m, ..., 1.

    Complete up to the error of this sum: the attribution adds up to the difference of the logits at both ends. The code
    of the papers compared here differs: score=softmax instead of the logit (Wang et al., Dombrowski et al.), no factor
    for the difference (RobustAGA), an extra factor for the position in every term (RelEx, which is another method).
    """

    name = "integrated_gradients"
    differentiable = True
    paper = bench.Paper(
        "Axiomatic Attribution for Deep Networks",
        "Mukund Sundararajan and Ankur Taly and Qiqi Yan",
        "ICML",
        2017,
        "https://proceedings.mlr.press/v70/sundararajan17a.html",
    )
    examples = ("steps=4", "steps=3,baseline=black", "steps=3,score=softmax")
    steps: int = bench.param(50, "points on the line", low=1)
    baseline: Literal["mean", "black"] = bench.param("mean", "the start of the line: the mean colour, or black")
    score: Literal["logit", "softmax"] = bench.param("logit", "what is explained: logit or probability", added=True)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        scores = network if self.score == "logit" else nn.Sequential(network, nn.Softmax(1))
        start = bench.normalisation(network)[0] if self.baseline == "mean" else images.new_zeros(())

        def term(images: Tensor, numbers: range) -> Tensor:
            share = torch.tensor(numbers, dtype=images.dtype, device=images.device).add_(1).div_(self.steps)
            back = (share.repeat(len(images)) - 1).view(-1, 1, 1, 1)
            return add_chunk(scores, images, targets, numbers, lambda copies: back * (copies - start))

        return (images - start) * summed(network, images, self.steps, term) / self.steps
