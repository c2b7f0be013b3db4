"""Average random masks by the probability that the class keeps under them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench import noise, papers
from bench.gradients import summed, target_logits
from bench_explainers.mask import cut


@dataclass(frozen=True)
class RISE(bench.Explainer):
    """Average random masks, weighted by the probability of what they show (Petsiuk et al., BMVC 2018). The weight of a
    mask is the probability of the target where only what the mask shows is left. The sum is divided by the share that
    masks show.

    A mask is a coarse grid of cells that are shown or hidden, enlarged (bilinear) by one cell more than the image has,
    and cut out at a random place. Each image has masks of its own, fresh at every call; the authors use one set for
    all. The authors take 4000 masks for VGG16 and 8000 for ResNet50, of 7 x 7 cells of which half are shown;
    their script has 6000 of 8 x 8 cells, a tenth shown. Attacks follow the exact gradient of this average
    by the image, which is the method's own and needs no second derivative.
    """

    name = "rise"
    differentiable = True
    paper = papers.PETSIUK2018
    examples = ("samples=6,cells=3", "samples=4,cells=2,shown=0.3,fill=black")
    samples: int = bench.param(1000, "masks of each image", low=1)
    cells: int = bench.param(7, "cells along a side of the image", low=1)
    shown: float = bench.param(0.5, "chance that a cell is shown", low=0.001, high=1)
    fill: Literal["mean", "black"] = bench.param("mean", "colour of what is hidden: the mean colour, or black")

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        cover = bench.normalisation(network)[0].to(images) if self.fill == "mean" else images.new_zeros(())

        def term(images: Tensor, draws: range) -> Tensor:
            copies, classes = (each.repeat_interleave(len(draws), 0) for each in (images, targets))
            with noise.repeat(draws, len(images)):
                masks = self.draw(copies)
            seen = cover + masks * (copies - cover)
            chance = target_logits(bench.check_logits(network(seen), seen).softmax(1), seen, classes)
            return (chance.view(-1, 1, 1, 1) * masks).view(len(images), len(draws), *masks.shape[1:]).sum(1)

        return summed(network, images, self.samples, term) / (self.samples * self.shown)

    def draw(self, images: Tensor) -> Tensor:
        """Draw a mask for each image: (B, C, H, W) -> (B, 1, H, W) in [0, 1]."""
        count, _, height, width = images.shape
        grid = (noise.uniform(images.new_empty(count, 1, self.cells, self.cells), 0, 1) < self.shown).to(images)
        place = noise.uniform(images.new_empty(count, 2), 0, 1)
        cell = math.ceil(height / self.cells), math.ceil(width / self.cells)
        wide = F.interpolate(grid, [(self.cells + 1) * side for side in cell], mode="bilinear")
        return cut(wide, (place * place.new_tensor(cell)).long(), height, width)
