"""Measure what the class loses when a window is covered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import bench
from bench.gradients import target_logits


@dataclass(frozen=True)
class Occlusion(bench.Explainer):
    """Cover square windows, and average the fall of the target's logit (Zeiler and Fergus, ECCV 2014). Each pixel gets
    the mean over the windows that contain it. Windows at the right and lower border may be smaller, as in captum. All
    channels of a pixel share one value. It has no gradient, so only transfer and black-box attacks reach it.
    """

    name = "occlusion"
    differentiable = False
    paper = bench.Paper(
        "Visualizing and Understanding Convolutional Networks",
        "Matthew D. Zeiler and Rob Fergus",
        "ECCV",
        2014,
        "https://arxiv.org/abs/1311.2901",
    )
    examples = ("window=4,stride=4", "window=5,stride=3,fill=black")
    window: int = bench.param(4, "side of the window, in pixels", low=1)
    stride: int = bench.param(2, "pixels from one window to the next", low=1)
    fill: Literal["mean", "black"] = bench.param("mean", "colour of the cover: the mean colour, or black")

    def find_problem(self) -> str | None:
        if self.stride > self.window:
            return f"stride is {self.stride}, and windows of {self.window} leave gaps; give at most {self.window}"
        return None

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        cover = bench.normalisation(network)[0].to(images) if self.fill == "mean" else images.new_zeros(())
        height, width = images.shape[2:]
        total, count = torch.zeros_like(images[:, :1]), torch.zeros_like(images[:1, :1])
        with torch.no_grad():
            whole = target_logits(network(images), images, targets)
            for top in self._starts(height):
                for left in self._starts(width):
                    place = (..., slice(top, top + self.window), slice(left, left + self.window))
                    covered = images.clone()
                    covered[place] = cover
                    fall = whole - target_logits(network(covered), images, targets)
                    total[place] += fall.view(-1, 1, 1, 1)
                    count[place] += 1
        return total / count

    def _starts(self, size: int) -> list[int]:
        return [self.stride * i for i in range(max(0, math.ceil((size - self.window) / self.stride)) + 1)]
