"""Integrate the gradient along a path that avoids steep directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import bench
from bench.gradients import input_gradient


@dataclass(frozen=True)
class GuidedIntegratedGradients(bench.Explainer):
    """Integrate the gradient of the target's logit along a path of small gradients (Guided IG; Kapishnikov et al., CVPR
    2021, algorithm of the authors' code). From a baseline to the image, the path moves first those elements whose
    gradient is smallest.

    Each of `steps` steps takes the gradient once and reduces the l1 distance to the image by an equal part. It moves
    the share `fraction` of the elements of smallest magnitude, and more where these do not suffice. No element may
    leave the straight line by more than `distance` of its own way: 0 gives integrated gradients at 0, 1/m, ... instead
    of 1/m, ..., 1. Elements that are at the baseline already get none. The order of elements has no derivative, so
    only transfer and black-box attacks reach it. It takes `steps` gradients.
    """

    name = "guided_integrated_gradients"
    differentiable = False
    paper = bench.Paper(
        "Guided Integrated Gradients: An Adaptive Path Method for Removing Noise",
        "Andrei Kapishnikov and Subhashini Venugopalan and Besim Avci and Ben Wedin and Michael Terry and Tolga "
        "Bolukbasi",
        "CVPR",
        2021,
        "https://arxiv.org/abs/2106.09788",
    )
    examples = ("steps=4", "steps=5,baseline=black,fraction=0.1,distance=1")
    steps: int = bench.param(200, "steps of the path", low=1)
    fraction: float = bench.param(0.25, "share of the elements that move at a time", low=0.001, high=1)
    distance: float = bench.param(0.02, "how far an element may leave the line, as a share of its way", low=0, high=1)
    baseline: Literal["mean", "black"] = bench.param("mean", "the start of the path: the mean colour, or black")

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        start = bench.normalisation(network)[0].to(images) if self.baseline == "mean" else images.new_zeros(())
        with torch.no_grad():
            ways = (images - start).flatten(1)
            places, total = torch.zeros_like(ways), torch.zeros_like(ways)  # 0 at the baseline, 1 at the image
            for step in range(1, self.steps + 1):
                points = (start + places.view_as(images) * (images - start)).to(images)
                gradients = input_gradient(network, points, targets).flatten(1)
                moved = self._move(places, ways.abs(), gradients.abs(), step / self.steps)
                total += gradients * ways * (moved - places)
                places = moved
        return total.view_as(images)

    def _move(self, places: Tensor, lengths: Tensor, sizes: Tensor, share: float) -> Tensor:
        """Move elements, those of the smallest sizes first, until `share` of the way is done: (B, D) -> (B, D)."""
        low, high = max(share - self.distance, 0.0), min(share + self.distance, 1.0)
        places = places.clamp(min=low)
        goal = share * lengths.sum(1, keepdim=True)
        sizes = torch.where((places < high) & (lengths > 0), sizes, torch.inf)
        while True:
            missing = goal - (places * lengths).sum(1, keepdim=True)
            free = sizes.isfinite()
            # As many elements as the share of all, counted like the quantile of the authors' code.
            rank = int(self.fraction * (sizes.shape[1] - 1))
            limit = sizes.sort(dim=1).values[:, rank : rank + 1]
            limit = torch.where(limit.isfinite(), limit, sizes.where(free, -torch.inf).amax(1, keepdim=True))
            chosen = free & (sizes <= limit)
            room = ((high - places) * lengths * chosen).sum(1, keepdim=True)
            part = torch.where(room > 0, missing / room.where(room > 0, 1), 0).clamp(0, 1)
            places = places + part * (high - places) * chosen
            full = chosen & (part >= 1)
            sizes = torch.where(full, torch.inf, sizes)
            if not (full.any(1) & (missing - room > 1e-9 * goal).squeeze(1)).any():
                return places
